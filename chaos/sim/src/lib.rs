//! chaos/sim
