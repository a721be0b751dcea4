//! kuik's controller.

fn main() {}
