//! The command `fsck`: says whether the state of a stopped node is as its records make it.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use raft::{FsckError, StateReport};

/// Something is wrong with the state.
const DIFFERS: u8 = 1;
/// The state could not be checked.
const NOT_CHECKED: u8 = 2;

/// Checks the data directory, and writes to standard output what is wrong with its state.
pub(crate) fn run(data: &Path) -> ExitCode {
    let (code, text) = answer(&raft::fsck(data));
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(NOT_CHECKED),
    }
}

fn answer(result: &Result<StateReport, FsckError>) -> (u8, String) {
    match result {
        Ok(report) if report.findings.is_empty() => (0, format!("the state at entry {} is good\n", report.index)),
        Ok(report) => {
            let findings: String = report.findings.iter().map(|finding| format!("{finding}\n")).collect();
            let text = format!(
                "{findings}the state at entry {} is damaged: where other nodes are well, give this one an empty disk and it takes theirs\n",
                report.index
            );
            (DIFFERS, text)
        }
        Err(error) => {
            let causes = std::iter::successors(error.source(), |cause: &&dyn Error| (*cause).source());
            let causes: String = causes.map(|cause| format!(": {cause}")).collect();
            (NOT_CHECKED, format!("{error}{causes}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use meta::StateHash;
    use raft::Finding;

    use super::*;

    #[test]
    fn what_differs_is_printed_and_ends_with_one() {
        let hash = Finding::Hash {
            recorded: StateHash::EMPTY,
            computed: StateHash::from_bytes([1; 16]),
        };
        let report = StateReport {
            index: 7,
            findings: vec![hash],
        };
        let (code, text) = answer(&Ok(report));
        assert_eq!(code, DIFFERS);
        assert!(text.starts_with("state hash: 0000"), "{text}");
        assert!(text.contains("the state at entry 7 is damaged"), "{text}");
    }
}
