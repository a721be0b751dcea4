//! Response bodies: streamed with a deadline for progress, read whole up to a limit, or thrown away.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use crate::error::{Phase, Target, UpstreamError};
use crate::silence::{self, Silence};

/// An answer nobody wants is read up to here, so that its connection can be used again.
const DISCARD_BYTES_MAX: usize = 64 << 10;
/// Reading on may not cost more than a new connection.
const DISCARD_TIME_MAX: Duration = Duration::from_millis(200);

/// A body as it arrives. It ends with an error if bytes are missing or none come for too long.
pub struct BodyStream(Pin<Box<dyn Stream<Item = Result<Bytes, UpstreamError>> + Send>>);

/// A failure below the body, before it is given the name of what was asked for.
#[derive(Debug)]
pub(crate) enum BodyError {
    Broken(hyper::Error),
    Silent(Silence),
}

impl BodyStream {
    pub(crate) fn new(stream: impl Stream<Item = Result<Bytes, UpstreamError>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// A body of a source registry, ended when nothing comes for `limit`.
    pub(crate) fn of_registry(incoming: Incoming, target: Target, limit: Duration) -> Self {
        let body = silence::no_progress(frames(incoming), limit);
        Self::new(body.map(move |item| item.map_err(|error| error.named(&target))))
    }
}

impl BodyError {
    pub(crate) fn named(self, target: &Target) -> UpstreamError {
        match self {
            Self::Broken(error) => UpstreamError::unavailable(target, error),
            Self::Silent(silence) => silent(silence, target),
        }
    }
}

/// What silence means for the caller.
pub(crate) fn silent(silence: Silence, target: &Target) -> UpstreamError {
    match silence {
        Silence::Stalled { quiet_for } => UpstreamError::Timeout {
            target: target.clone(),
            phase: Phase::Body,
            waited: quiet_for,
        },
        Silence::Dead { .. } => UpstreamError::Unavailable {
            target: target.clone(),
            after: None,
            source: Arc::new(silence),
        },
    }
}

/// The data frames of a body; trailers are of no use here.
pub(crate) fn frames(incoming: Incoming) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    incoming.into_data_stream().map(|item| item.map_err(BodyError::Broken))
}

/// Reads a body whole.
///
/// # Errors
/// [`UpstreamError::Protocol`] over `bytes_max`; else as the stream.
pub(crate) async fn read_whole(
    incoming: Incoming,
    bytes_max: usize,
    target: &Target,
    no_progress: Duration,
) -> Result<Bytes, UpstreamError> {
    if incoming.size_hint().lower() > bytes_max as u64 {
        return Err(too_large(bytes_max, target));
    }
    collect(
        BodyStream::of_registry(incoming, target.clone(), no_progress),
        bytes_max,
        target,
    )
    .await
}

/// Reads a stream whole, up to `bytes_max`.
pub(crate) async fn collect(mut stream: BodyStream, bytes_max: usize, target: &Target) -> Result<Bytes, UpstreamError> {
    let mut whole = BytesMut::new();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        if whole.len() + bytes.len() > bytes_max {
            return Err(too_large(bytes_max, target));
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole.freeze())
}

fn too_large(bytes_max: usize, target: &Target) -> UpstreamError {
    UpstreamError::protocol(target, format!("answer of more than {bytes_max} bytes"))
}

/// Throws a short body away, so that its connection can be used again; gives up early on a long or slow one.
pub(crate) async fn discard(incoming: Incoming) {
    peek(incoming, 0).await;
}

/// The first bytes of an answer that is not wanted for itself, such as an error document; best effort.
pub(crate) async fn peek(mut incoming: Incoming, keep: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let reading = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = incoming.frame().await {
            let Some(data) = frame.data_ref() else { continue };
            seen += data.len();
            kept.extend_from_slice(&data[..data.len().min(keep - kept.len())]);
            if seen > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    // Out of time is as good as done: what was read is what there is.
    let _ = timeout(DISCARD_TIME_MAX, reading).await;
    kept
}

impl From<Silence> for BodyError {
    fn from(silence: Silence) -> Self {
        Self::Silent(silence)
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, UpstreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyStream")
    }
}
