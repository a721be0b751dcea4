//! kuik's webhook.

fn main() {}
