//! The body of a response: nothing, bytes in memory, or a blob's stream held to its announced length.
//!
//! A stream that errs, ends early or runs over fails the body, which makes hyper cut the connection: a client
//! never sees a clean end after the wrong bytes.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::StreamExt;
use hyper::body::{Frame, SizeHint};

use crate::connection::Busy;
use crate::registry::BlobStream;

/// The body of a response.
pub struct Body {
    content: Content,
    busy: Option<Busy>,
}

enum Content {
    Empty,
    Full(Bytes),
    Stream(Streamed),
}

struct Streamed {
    first: Option<Bytes>,
    rest: BlobStream,
    /// Bytes still owed; `None` when the length was never announced.
    owed: Option<u64>,
    ended: bool,
    /// What went wrong, until it is told.
    failure: Option<io::Error>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.content {
            Content::Empty => "Empty",
            Content::Full(_) => "Full",
            Content::Stream(_) => "Stream",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self {
            content: Content::Empty,
            busy: None,
        }
    }

    /// These bytes, with their length announced.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let content = if bytes.is_empty() {
            Content::Empty
        } else {
            Content::Full(bytes)
        };
        Self { content, busy: None }
    }

    /// A stream of `size` bytes, or of unknown length, which goes out chunked.
    pub fn stream(stream: BlobStream, size: Option<u64>) -> Self {
        Self::started(None, stream, size)
    }

    /// A stream whose first chunk was already taken off it.
    pub(crate) fn started(first: Option<Bytes>, rest: BlobStream, size: Option<u64>) -> Self {
        Self {
            content: Content::Stream(Streamed {
                first,
                rest,
                owed: size,
                ended: false,
                failure: None,
            }),
            busy: None,
        }
    }

    /// Marks the connection busy until this body is dropped.
    pub(crate) fn keep_busy(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        self
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Stream(streamed) => streamed.poll_chunk(cx).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(_) => false,
            Content::Stream(streamed) => streamed.ended || streamed.owed == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(streamed) => streamed.owed.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

impl Streamed {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(err) = self.failure.take() {
            self.ended = true;
            return Poll::Ready(Some(Err(err)));
        }
        if self.ended || self.owed == Some(0) {
            return Poll::Ready(None);
        }
        let next = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(self.poll_nonempty(cx)),
        };
        let checked = match next {
            Some(chunk) => chunk.and_then(|chunk| self.settle(chunk)),
            None if self.owed.is_some() => Err(io::ErrorKind::UnexpectedEof.into()),
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
        };
        match checked {
            Ok(chunk) => Poll::Ready(Some(Ok(chunk))),
            Err(err) => self.defer(err, cx),
        }
    }

    /// Fails one poll later: hyper sends what it has while the body is pending, and drops it when the body fails.
    /// A client that resumes is spared those bytes.
    fn defer(&mut self, err: io::Error, cx: &Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.failure = Some(err);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Empty chunks say nothing, and would end a chunked body.
    fn poll_nonempty(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match ready!(self.rest.poll_next_unpin(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                other => return Poll::Ready(other),
            }
        }
    }

    fn settle(&mut self, chunk: Bytes) -> io::Result<Bytes> {
        if let Some(owed) = &mut self.owed {
            *owed = owed
                .checked_sub(chunk.len() as u64)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "more bytes than announced"))?;
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body_util::BodyExt;

    fn body(chunks: &[&'static [u8]], size: Option<u64>) -> Body {
        let chunks: Vec<io::Result<Bytes>> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
        Body::stream(stream::iter(chunks).boxed(), size)
    }

    async fn read(body: Body) -> io::Result<Bytes> {
        Ok(body.collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn empty_chunks_are_skipped() {
        assert_eq!(read(body(&[b"", b"ab", b"", b"c"], None)).await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn a_stream_that_ends_early_is_an_error() {
        assert_eq!(
            read(body(&[b"ab"], Some(3))).await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[tokio::test]
    async fn a_stream_that_runs_over_is_an_error() {
        assert_eq!(
            read(body(&[b"ab", b"cd"], Some(3))).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[tokio::test]
    async fn a_stream_is_not_asked_beyond_its_announced_length() {
        let tail = stream::iter([Ok(Bytes::from_static(b"abc"))]).chain(stream::pending());
        assert_eq!(read(Body::stream(tail.boxed(), Some(3))).await.unwrap(), "abc");
    }
}
