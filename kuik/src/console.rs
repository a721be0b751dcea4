//! Lines for the person in front of `kuik`: answers on standard output, notes on standard error, with a moving line while something is awaited,
//! if that is a terminal.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};

const SPINNER_INTERVAL: Duration = Duration::from_millis(120);

/// Prints to standard output. A reader that has seen enough (`kuik status | head`) is no failure.
///
/// # Errors
/// Any other failure to write.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints notes. Clones share the moving line.
#[derive(Clone)]
pub(crate) struct Console {
    moving: ProgressBar,
}

impl Console {
    pub(crate) fn new() -> Self {
        // Hidden by itself where standard error is no terminal.
        let moving = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        moving.enable_steady_tick(SPINNER_INTERVAL);
        Self { moving }
    }

    /// Prints a line that stays.
    pub(crate) fn note(&self, line: &str) {
        self.moving.suspend(|| eprintln!("{line}"));
    }

    /// Says what is awaited, on the moving line.
    pub(crate) fn awaiting(&self, what: &str) {
        self.moving.set_message(what.to_owned());
    }

    /// Removes the moving line.
    pub(crate) fn settled(&self) {
        self.moving.finish_and_clear();
    }
}
