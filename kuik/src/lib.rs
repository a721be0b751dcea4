//! kuik
