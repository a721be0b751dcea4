//! kuik's controller.
