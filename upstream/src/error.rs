//! What can go wrong between us and a registry, by what the caller can do about it.
//!
//! Every variant names the host and the thing asked for; the cause is in `source`, never in the text too. Errors are
//! `Clone`, because one answer (a token, a coalesced fetch) may fail several waiters.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oci::ManifestError;

use crate::address::ForbiddenAddress;

/// The cause of an error, shareable between the waiters of one answer.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// What was asked for, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: Arc<str>,
    thing: Arc<str>,
}

/// Which wait ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Name resolution, TCP, proxy tunnel and TLS.
    Connect,
    /// The response headers.
    Headers,
    /// The next bytes of a body.
    Body,
}

/// Why a registry (or a cache node) did not give what was asked of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It answered that there is no such thing. Hub answers [`UpstreamError::Denied`] instead for what is missing.
    #[error("{target} not found")]
    NotFound {
        /// What was asked for.
        target: Target,
    },
    /// Credentials are missing, wrong or not enough (401, 403, 451); asking again with the same ones is pointless.
    #[error("{target} denied with status {status}{}", reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default())]
    Denied {
        /// What was asked for.
        target: Target,
        /// The HTTP status.
        status: u16,
        /// What the registry said, if it said something.
        reason: Option<String>,
    },
    /// Too many requests; leave the registry alone for `after`.
    #[error("{target} rate limited")]
    RateLimited {
        /// What was asked for.
        target: Target,
        /// How long the registry asks to be left alone, where it says.
        after: Option<Duration>,
    },
    /// It could not be reached, broke off, or failed by itself (5xx). Another source, or a later try, may work.
    #[error("{target} unavailable")]
    Unavailable {
        /// What was asked for.
        target: Target,
        /// How long the registry asks to be left alone, where it says.
        after: Option<Duration>,
        /// The failure below.
        source: Cause,
    },
    /// Nothing came for too long.
    #[error("{target} timed out after {waited:?} waiting for {phase}")]
    Timeout {
        /// What was asked for.
        target: Target,
        /// Which wait ran out.
        phase: Phase,
        /// Its length.
        waited: Duration,
    },
    /// The host resolves to an address we do not connect to unless its host is configured.
    #[error("{target} refused")]
    Refused {
        /// What was asked for.
        target: Target,
        /// The address and why.
        source: ForbiddenAddress,
    },
    /// The bytes are not what their digest says.
    #[error("{target} is corrupt")]
    Corrupt {
        /// What was asked for.
        target: Target,
        /// The expected and the actual digest.
        source: Cause,
    },
    /// The answer breaks the protocol or a limit.
    #[error("{target}: {detail}")]
    Protocol {
        /// What was asked for.
        target: Target,
        /// What was wrong with the answer.
        detail: String,
    },
}

/// A response status that stands for no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("status {0}")]
pub struct FailureStatus(pub u16);

impl Target {
    pub(crate) fn new(host: impl Into<Arc<str>>, thing: impl Into<Arc<str>>) -> Self {
        Self {
            host: host.into(),
            thing: thing.into(),
        }
    }

    /// The host that was asked.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What was asked for, in words.
    pub fn thing(&self) -> &str {
        &self.thing
    }
}

impl UpstreamError {
    /// What was asked for, and of whom.
    pub fn target(&self) -> &Target {
        match self {
            Self::NotFound { target }
            | Self::Denied { target, .. }
            | Self::RateLimited { target, .. }
            | Self::Unavailable { target, .. }
            | Self::Timeout { target, .. }
            | Self::Refused { target, .. }
            | Self::Corrupt { target, .. }
            | Self::Protocol { target, .. } => target,
        }
    }

    pub(crate) fn unavailable(target: &Target, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable {
            target: target.clone(),
            after: None,
            source: Arc::from(cause.into()),
        }
    }

    pub(crate) fn protocol(target: &Target, detail: impl Into<String>) -> Self {
        Self::Protocol {
            target: target.clone(),
            detail: detail.into(),
        }
    }

    pub(crate) fn manifest(target: &Target, error: ManifestError) -> Self {
        match error {
            ManifestError::Mismatch(_) => Self::Corrupt {
                target: target.clone(),
                source: Arc::new(error),
            },
            other => Self::protocol(target, other.to_string()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.thing, self.host)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the connection",
            Self::Headers => "response headers",
            Self::Body => "the next bytes",
        })
    }
}

/// Looks for an error of one type in a chain, the outermost first.
pub(crate) fn find_cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        current = error.source();
    }
    None
}
