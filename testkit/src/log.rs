//! What is logged while a test runs, at every level: where secrets are looked for.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing::subscriber::DefaultGuard;

/// Everything that the thread of one test logs, until it is dropped. A runtime of that one thread logs all of it here.
pub struct Log {
    written: Written,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Listens from now on.
    pub fn start() -> Self {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone());
        Self {
            written,
            _guard: tracing::subscriber::set_default(lines.finish()),
        }
    }

    /// The lines so far.
    pub fn text(&self) -> String {
        let written = self.written.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written).into_owned()
    }

    /// Looks for a secret.
    ///
    /// # Panics
    /// If a line shows it.
    #[track_caller]
    pub fn assert_hides(&self, secret: &str) {
        let text = self.text();
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "shows {secret:?}");
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_heard_until_it_is_dropped() {
        let log = Log::start();
        tracing::trace!(fact = "quiet", "said");
        assert!(log.text().contains("quiet"), "{}", log.text());
        log.assert_hides("never said");
    }

    #[test]
    #[should_panic(expected = "shows \"canary\"")]
    fn a_secret_that_is_shown_is_found() {
        let log = Log::start();
        tracing::debug!(password = "canary");
        log.assert_hides("canary");
    }
}
