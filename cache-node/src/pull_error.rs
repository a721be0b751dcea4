//! Why a pull cannot be answered, and the one place that says so in the registry port's words.

use std::time::Duration;

use daemon::runtime::one_line;
use distribution::RegistryError;
use oci::NameError;
use upstream::UpstreamError;

/// Why content cannot be given, named for what whoever asked can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PullError {
    /// The name in the request is not a repository.
    #[error("repository name")]
    Name(#[source] NameError),
    /// The source says that there is no such thing, and nothing of it is cached.
    #[error("not found")]
    NotFound,
    /// The source wants other credentials than it was given, and nothing may be served from the cache.
    #[error("denied by the source: {0}")]
    Denied(String),
    /// No source can give it now.
    #[error("{why}")]
    Unavailable {
        /// What was tried, for people.
        why: String,
        /// When to come back, where a source said so.
        after: Option<Duration>,
    },
    /// No source made progress for as long as a direct pull would have waited.
    #[error("no answer in time: {0}")]
    Timeout(String),
    /// A fault of this node.
    #[error("internal: {0}")]
    Internal(String),
}

/// What was asked for; decides which "unknown" a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
    /// Something about a repository.
    Repository,
}

impl PullError {
    /// A [`PullError::Unavailable`] with nothing to say about when to come back.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable {
            why: why.into(),
            after: None,
        }
    }

    /// What the client is told.
    pub fn answer(self, wanted: Wanted) -> RegistryError {
        match self {
            Self::Name(error) => RegistryError::NameInvalid { why: error.to_string() },
            Self::NotFound => match wanted {
                Wanted::Manifest => RegistryError::ManifestUnknown,
                Wanted::Blob => RegistryError::BlobUnknown,
                Wanted::Repository => RegistryError::NameUnknown,
            },
            Self::Denied(why) => RegistryError::Denied { why },
            Self::Unavailable { why, after } => RegistryError::Unavailable {
                why,
                retry_after: after,
            },
            Self::Timeout(why) => RegistryError::Timeout { why },
            Self::Internal(why) => RegistryError::Internal { source: why.into() },
        }
    }
}

impl From<UpstreamError> for PullError {
    fn from(error: UpstreamError) -> Self {
        let why = one_line(&error);
        match error {
            UpstreamError::NotFound { .. } => Self::NotFound,
            UpstreamError::Denied { .. } | UpstreamError::Refused { .. } => Self::Denied(why),
            UpstreamError::RateLimited { after, .. } | UpstreamError::Unavailable { after, .. } => {
                Self::Unavailable { why, after }
            }
            UpstreamError::Timeout { .. } => Self::Timeout(why),
            UpstreamError::Corrupt { .. } | UpstreamError::Protocol { .. } => Self::unavailable(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_names_the_thing_that_was_asked_for() {
        assert!(matches!(
            PullError::NotFound.answer(Wanted::Manifest),
            RegistryError::ManifestUnknown
        ));
        assert!(matches!(
            PullError::NotFound.answer(Wanted::Blob),
            RegistryError::BlobUnknown
        ));
    }

    #[test]
    fn a_fault_of_this_node_is_not_told_to_clients() {
        let answer = PullError::Internal("secret path".into()).answer(Wanted::Blob);
        assert_eq!(answer.to_string(), "internal error");
    }
}
