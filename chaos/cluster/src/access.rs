//! How `kubectl` and `helm` reach the cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a cluster that is there already, for example one of kind or k3s.
pub(crate) const KUBECONFIG_VARIABLE: &str = "KUIK_E2E_KUBECONFIG";

/// The way to a cluster.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// One of `hack/cluster`, by its name.
    Own { name: String },
    /// Any other.
    Kubeconfig(PathBuf),
}

impl Access {
    /// A `kubectl` or `helm` command for this cluster.
    pub(crate) fn client(&self, program: &str) -> Command {
        match self {
            Self::Own { .. } => self.script(&[program]),
            Self::Kubeconfig(path) => {
                let mut command = with_env();
                command.arg(program).arg("--kubeconfig").arg(path);
                command
            }
        }
    }

    /// A command of `hack/cluster/cluster`.
    pub(crate) fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(checkout().join("hack/cluster/cluster"));
        command.args(arguments);
        if let Self::Own { name } = self {
            command.env("KUIK_CLUSTER", name);
        }
        command
    }
}

/// A command that sees what `tools/setup` has installed.
pub(crate) fn with_env() -> Command {
    Command::new(checkout().join("tools/with-env"))
}

/// The checkout the test runs in: cargo starts tests in their package's directory.
pub(crate) fn checkout() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = package.as_deref().and_then(|package| package.ancestors().nth(2));
    root.unwrap_or(Path::new(".")).to_owned()
}
