//! The processor architectures an image can be for.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

/// A processor architecture, by the name that both OCI and Debian have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// Of this machine.
    ///
    /// # Errors
    /// If no image is built for it.
    pub(crate) fn native() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("no image is built for {other}"),
        }
    }

    /// Its name in an image.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Where Debian keeps its libraries, under `/usr/lib`.
    pub(crate) fn triplet(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// Where its programs look for the loader, under `/`; `/lib` and `/lib64` lead to `/usr`.
    pub(crate) fn loader(self) -> &'static str {
        match self {
            Self::Amd64 => "usr/lib64/ld-linux-x86-64.so.2",
            Self::Arm64 => "usr/lib/ld-linux-aarch64.so.1",
        }
    }
}

impl FromStr for Architecture {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "amd64" => Ok(Self::Amd64),
            "arm64" => Ok(Self::Arm64),
            other => bail!("no image is built for {other:?}: amd64 or arm64"),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
