//! What a registry may answer instead of the thing asked for, and the one place that turns it into a status.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::StatusCode;
use oci::ErrorCode;
use thiserror::Error;

/// Why a registry does not answer with the thing asked for, named for what the client should make of it.
///
/// None of these becomes a 429; a source that limits its rate is [`Unavailable`](Self::Unavailable).
#[derive(Debug, Error)]
pub enum RegistryError {
    /// 400 `NAME_INVALID`: the name can never exist here, for example its host may not be asked.
    #[error("invalid name: {why}")]
    NameInvalid {
        /// Shown to the client.
        why: String,
    },
    /// 404 `NAME_UNKNOWN`: no such repository.
    #[error("repository unknown to registry")]
    NameUnknown,
    /// 404 `MANIFEST_UNKNOWN`: no such manifest or tag; the client asks its next host.
    #[error("manifest unknown")]
    ManifestUnknown,
    /// 404 `BLOB_UNKNOWN`: no such blob; the client asks its next host.
    #[error("blob unknown to registry")]
    BlobUnknown,
    /// 401 `UNAUTHORIZED`, without a challenge: one here would collect the passwords of pull secrets.
    #[error("authentication required: {why}")]
    Unauthorized {
        /// Shown to the client.
        why: String,
    },
    /// 403 `DENIED`.
    #[error("access denied: {why}")]
    Denied {
        /// Shown to the client.
        why: String,
    },
    /// 405 `UNSUPPORTED`.
    #[error("{what} is not supported")]
    Unsupported {
        /// The operation.
        what: &'static str,
    },
    /// 503 `UNAVAILABLE`: someone else may have it; the client should ask its next host.
    #[error("temporarily unavailable: {why}")]
    Unavailable {
        /// Shown to the client.
        why: String,
        /// When asking here again makes sense (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// 504 `UNAVAILABLE`: the source did not answer in time.
    #[error("no answer in time: {why}")]
    Timeout {
        /// Shown to the client.
        why: String,
    },
    /// 500 `UNKNOWN`: this process is at fault. The cause is logged and not shown.
    #[error("internal error")]
    Internal {
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl RegistryError {
    /// A 503 without a time to come back.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable {
            why: why.into(),
            retry_after: None,
        }
    }

    /// Status and error code: the only place that decides them for failures of the port.
    pub fn status(&self) -> (StatusCode, ErrorCode) {
        match self {
            Self::NameInvalid { .. } => (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid),
            Self::NameUnknown => (StatusCode::NOT_FOUND, ErrorCode::NameUnknown),
            Self::ManifestUnknown => (StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown),
            Self::BlobUnknown => (StatusCode::NOT_FOUND, ErrorCode::BlobUnknown),
            Self::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized),
            Self::Denied { .. } => (StatusCode::FORBIDDEN, ErrorCode::Denied),
            Self::Unsupported { .. } => (StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported),
            Self::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
            Self::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, ErrorCode::Unavailable),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown),
        }
    }
}

/// What the failure of a blob's first chunk means: the registry's own error if it put one inside, else by kind.
impl From<io::Error> for RegistryError {
    fn from(err: io::Error) -> Self {
        let err = match err.downcast::<Self>() {
            Ok(own) => return own,
            Err(other) => other,
        };
        match err.kind() {
            io::ErrorKind::NotFound => Self::BlobUnknown,
            io::ErrorKind::PermissionDenied => Self::Denied { why: err.to_string() },
            io::ErrorKind::TimedOut => Self::Timeout { why: err.to_string() },
            _ => Self::unavailable(err.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_error_inside_an_io_error_is_answered_as_itself() {
        let err = io::Error::other(RegistryError::Denied { why: "no".to_owned() });
        assert!(matches!(RegistryError::from(err), RegistryError::Denied { .. }));
    }

    #[test]
    fn kind_of_an_io_error_decides_its_status() {
        let status = |kind| RegistryError::from(io::Error::from(kind)).status().0;
        assert_eq!(status(io::ErrorKind::NotFound), StatusCode::NOT_FOUND);
        assert_eq!(status(io::ErrorKind::PermissionDenied), StatusCode::FORBIDDEN);
        assert_eq!(status(io::ErrorKind::TimedOut), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(status(io::ErrorKind::ConnectionReset), StatusCode::SERVICE_UNAVAILABLE);
    }
}
