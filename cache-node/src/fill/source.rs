//! Ports: where the bytes of a fill come from, and who decides which source is next.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// One place that may have the blob: another cache node, or a source registry.
#[async_trait]
pub trait Source: Send + Sync {
    /// Names the source for people, such as `node-2` or `docker.io/library/nginx`.
    fn label(&self) -> String;

    /// Asks for the bytes from `offset` on.
    ///
    /// Duties: the stream starts exactly at `offset` (skip bytes if the source ignores ranges), and is empty where
    /// that is the blob's end. Deadlines are the fill's: dropping the future or the stream ends the request.
    async fn open(&self, offset: u64) -> Result<SourceStream, SourceError>;

    /// Says whether a source that has been silent for a second still lives. The fill asks while it waits, again after
    /// each second of silence, and takes no answer within its deadline for a no.
    async fn alive(&self) -> bool {
        true
    }

    /// Longest time without any progress, where it is not the fill's own.
    fn patience(&self) -> Option<Duration> {
        None
    }
}

/// A response of a source.
pub struct SourceStream {
    /// Length of the whole blob in bytes, not of what is left of it, as far as the source says.
    pub total: Option<u64>,
    /// What follows the offset. An error ends it.
    pub stream: BoxStream<'static, Result<Bytes, SourceError>>,
}

/// Why a source did not give the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It says that there is no such blob. Whoever asks again within a second is told the same.
    #[error("not found")]
    NotFound,
    /// It wants other credentials.
    #[error("denied: {why}")]
    Denied {
        /// What it said.
        why: String,
    },
    /// It cannot now; another source may.
    #[error("unavailable: {why}")]
    Unavailable {
        /// What happened.
        why: String,
        /// When to come back, where it said so.
        after: Option<Duration>,
    },
    /// It lives but made no progress for this long.
    #[error("no progress for {0:?}")]
    NoProgress(Duration),
    /// It fell silent and does not answer.
    #[error("silent and not answering")]
    Dead,
    /// What it sent is not the blob.
    #[error("corrupt: {why}")]
    Corrupt {
        /// What is wrong with it.
        why: String,
    },
}

/// Decides which source is next. The decision is the caller's; it waits for nothing.
pub trait SourcePlan: Send {
    /// The source to use now, after `failed` if that is not the first. `None` ends the plan.
    ///
    /// A source may be given again. The plan bounds how often: the fill asks for as long as it gets one.
    fn next(&mut self, failed: Option<&SourceFailure>) -> Option<Box<dyn Source>>;
}

/// How the last source ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFailure {
    /// Which it was.
    pub label: String,
    /// How many bytes the fill had by then, from all its sources.
    pub received_bytes: u64,
    /// How long the fill has waited for sources, this one and others, since the last byte.
    pub silent_for: Duration,
    /// What happened.
    pub error: SourceError,
}
