//! kuik's webhook.
