//! Checks the state on the disk of a stopped node: what is derived is computed again from the records and compared.
//!
//! Reads everything and changes nothing. The log, and the bytes of blobs, are not looked at.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use meta::StateHash;
use meta::invariant::{self, Violation};

use crate::data_dir::{DataDir, DataDirError};
use crate::rocks_state::RocksState;
use crate::state_machine::Applied;

/// Why a state could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The directory is in use, or is none of a node.
    #[error("check a node's state")]
    DataDir(#[from] DataDirError),
    /// The state does not open.
    #[error("open the state in {}", path.display())]
    Open {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
}

/// What a check has found.
#[derive(Debug)]
pub struct StateReport {
    /// The last entry the state includes.
    pub index: u64,
    /// What is wrong; empty if all is well.
    pub findings: Vec<Finding>,
}

/// Something that is wrong with a state.
#[derive(Debug)]
pub enum Finding {
    /// Records were changed by something else than the log. The hash does not say which.
    Hash {
        /// The hash kept entry by entry.
        recorded: StateHash,
        /// The hash of the records as they are.
        computed: StateHash,
    },
    /// Records contradict each other, or cannot be read.
    Violation(Violation),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Hash { recorded, computed } => {
                write!(f, "state hash: {recorded} is recorded, the records give {computed}")
            }
            Finding::Violation(violation) => {
                write!(f, "{violation}")?;
                let causes = std::iter::successors(std::error::Error::source(violation), |error| error.source());
                causes.into_iter().try_for_each(|cause| write!(f, ": {cause}"))
            }
        }
    }
}

/// Checks the state in the data directory `path` of a node that does not run. Blocks.
///
/// # Errors
/// [`FsckError`] if it could not be checked; what is wrong with the state is in the report.
pub fn fsck(path: &Path) -> Result<StateReport, FsckError> {
    let directory = DataDir::open_existing(path)?;
    let state = directory.join("state");
    let failed = |source| FsckError::Open {
        path: state.clone(),
        source,
    };
    let (reader, record) = RocksState::read_only(state.clone()).map_err(failed)?;
    let applied = match record {
        Some(record) => Applied::decode(record).map_err(|error| failed(io::Error::from(error)))?,
        None => Applied::default(),
    };
    let hash = match StateHash::of(&reader) {
        Ok(computed) if computed == applied.hash => None,
        Ok(computed) => Some(Finding::Hash {
            recorded: applied.hash,
            computed,
        }),
        Err(error) => Some(Finding::Violation(error.into())),
    };
    let violations = invariant::violations(&reader).into_iter().map(Finding::Violation);
    Ok(StateReport {
        index: applied.index(),
        findings: hash.into_iter().chain(violations).collect(),
    })
}
