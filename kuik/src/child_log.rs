//! The log file of a child: appended to by the child itself, so that nothing is lost when `kuik up` is killed, and
//! kept small from here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A log longer than this is moved to `<name>.log.1`; a child's logs never take more than twice this.
const LOG_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Enough for the last lines.
const TAIL_BYTES: u64 = 4096;
/// Logs name images; they are nobody else's business.
const LOG_MODE: u32 = 0o600;

/// Opens the log for a child to append to.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(LOG_MODE).open(path)
}

/// Moves the lines of a long log away. The child keeps its descriptor and goes on at the start of the file; lines
/// it writes in this very moment may be lost.
pub(crate) fn keep_small(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.len() <= LOG_BYTES_MAX {
        return Ok(());
    }
    std::fs::copy(path, path.with_extension("log.1"))?;
    File::options().write(true).open(path)?.set_len(0)
}

/// What the program ended with, if that is the last thing it logged.
pub(crate) fn last_error(path: &Path) -> Option<String> {
    let line = last_line(path)?;
    line.strip_prefix("error: ").map(str::to_owned)
}

fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    tail.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn long_log_is_moved_and_its_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-0.log");
        let mut log = open(&path).unwrap();
        log.write_all(b"small\n").unwrap();
        keep_small(&path).unwrap();
        assert!(!dir.path().join("node-0.log.1").exists());
        log.set_len(LOG_BYTES_MAX + 1).unwrap();
        keep_small(&path).unwrap();
        log.write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"after\n");
        assert_eq!(
            std::fs::metadata(dir.path().join("node-0.log.1")).unwrap().len(),
            LOG_BYTES_MAX + 1
        );
    }

    #[test]
    fn only_an_error_at_the_end_is_the_last_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.log");
        assert_eq!(last_error(&path), None);
        std::fs::write(&path, "first\nerror: no disk\n\n").unwrap();
        assert_eq!(last_error(&path).as_deref(), Some("no disk"));
        std::fs::write(&path, "error: no disk\ncarried on\n").unwrap();
        assert_eq!(last_error(&path), None);
    }
}
