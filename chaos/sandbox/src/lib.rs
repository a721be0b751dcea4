//! chaos/sandbox
