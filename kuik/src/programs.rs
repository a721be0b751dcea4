//! Where the children's programs are: beside `kuik` itself, or where `KUIK_BIN_DIR` says.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Overrides where the programs are looked for.
pub(crate) const BIN_DIR_ENV: &str = "KUIK_BIN_DIR";

const CACHE_NODE: &str = "kuik-cache-node";
const PROXY: &str = "kuik-proxy";

/// The programs `kuik up` starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Programs {
    pub(crate) cache_node: PathBuf,
    pub(crate) proxy: PathBuf,
    /// This program, for the demo's source.
    pub(crate) kuik: PathBuf,
}

/// Why they cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("find this program's own path")]
    Own(#[source] io::Error),
    #[error("no program {name} in {}: build it, or say where it is with {BIN_DIR_ENV}", dir.display())]
    Missing { name: &'static str, dir: PathBuf },
}

impl Programs {
    /// Finds all of them.
    ///
    /// # Errors
    /// [`ProgramError::Missing`] for the first that is not there or not executable.
    pub(crate) fn find() -> Result<Self, ProgramError> {
        let kuik = std::env::current_exe().map_err(ProgramError::Own)?;
        let asked = std::env::var_os(BIN_DIR_ENV)
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from);
        let beside = kuik.parent().map(Path::to_owned).unwrap_or_default();
        Self::find_in(&asked.unwrap_or(beside), kuik)
    }

    fn find_in(dir: &Path, kuik: PathBuf) -> Result<Self, ProgramError> {
        let find = |name: &'static str| {
            let path = dir.join(name);
            let runs = path.is_file() && access(&path, Access::EXEC_OK).is_ok();
            runs.then_some(path).ok_or_else(|| ProgramError::Missing {
                name,
                dir: dir.to_owned(),
            })
        };
        Ok(Self {
            cache_node: find(CACHE_NODE)?,
            proxy: find(PROXY)?,
            kuik,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn missing_program_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join(CACHE_NODE);
        std::fs::write(&node, "").unwrap();
        let error = Programs::find_in(dir.path(), PathBuf::new()).unwrap_err();
        assert!(
            error.to_string().starts_with("no program kuik-cache-node in "),
            "not executable yet"
        );
        std::fs::set_permissions(&node, PermissionsExt::from_mode(0o755)).unwrap();
        let error = Programs::find_in(dir.path(), PathBuf::new()).unwrap_err().to_string();
        assert!(error.starts_with("no program kuik-proxy in "), "{error}");
        assert!(error.contains("KUIK_BIN_DIR"), "{error}");
    }
}
