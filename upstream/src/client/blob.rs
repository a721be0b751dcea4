//! Blobs: their size, and their bytes from any offset.

use std::future::ready;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use oci::{ContentRange, Digest, Endpoint, Repository};

use super::RegistryClient;
use super::exchange::Ask;
use crate::body::BodyStream;
use crate::error::{Target, UpstreamError};

/// What is known of a blob without fetching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHead {
    /// Its length, if the source says.
    pub size_bytes: Option<u64>,
}

/// The bytes of a blob from an offset to its end, not verified.
#[derive(Debug)]
pub struct BlobStream {
    /// Length of the whole blob, if the source says.
    pub total_bytes: Option<u64>,
    /// Where `stream` starts: what was asked for, however the source answered.
    pub offset: u64,
    /// The bytes.
    pub stream: BodyStream,
}

impl RegistryClient {
    /// Asks whether a blob exists, and how long it is.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn head_blob(&self, repository: &Repository, digest: &Digest) -> Result<BlobHead, UpstreamError> {
        let attempt = || async move {
            let ask = ask(repository, digest, Method::HEAD, 0);
            let target = ask.target();
            let answer = self.exchange(&ask, &target).await?;
            if !answer.response.status().is_success() {
                return Err(self.failure(answer, &target).await);
            }
            Ok(BlobHead {
                size_bytes: content_length(answer.response.headers()),
            })
        };
        self.retrying(&repository.host, attempt).await
    }

    /// Fetches a blob from `offset` on.
    ///
    /// A source that ignores `Range` is read from the start and the bytes before `offset` are thrown away. An
    /// offset at the very end gives an empty stream. The bytes are not verified: who keeps them hashes them.
    ///
    /// # Errors
    /// [`UpstreamError`], until the headers are there; then the stream's items, which end with an error if bytes are
    /// missing or none come for [`crate::Patience::no_progress`]. Contract: G-24, G-58.
    pub async fn get_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        offset: u64,
    ) -> Result<BlobStream, UpstreamError> {
        let attempt = || async move {
            let ask = ask(repository, digest, Method::GET, offset);
            let target = ask.target();
            let answer = self.exchange(&ask, &target).await?;
            match part(&answer.response, offset, &target)? {
                Some(part) => {
                    let incoming = answer.response.into_body();
                    Ok(part.stream(BodyStream::of_registry(incoming, target, self.patience.no_progress)))
                }
                None => Err(self.failure(answer, &target).await),
            }
        };
        self.retrying(&repository.host, attempt).await
    }
}

fn ask<'a>(repository: &'a Repository, digest: &Digest, method: Method, offset: u64) -> Ask<'a> {
    let endpoint = Endpoint::Blob {
        name: repository.name.clone(),
        digest: digest.clone(),
    };
    Ask {
        repository,
        endpoint,
        method,
        headers: range_headers(offset),
    }
}

/// The `Range` for everything from `offset` on; none for the whole.
pub(crate) fn range_headers(offset: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if offset > 0 {
        let range = HeaderValue::from_str(&format!("bytes={offset}-")).expect("digits are valid in a header");
        headers.insert(RANGE, range);
    }
    headers
}

/// What a response holds of what was asked for.
pub(crate) struct Part {
    total_bytes: Option<u64>,
    offset: u64,
    skip_bytes: u64,
    empty: bool,
}

/// Reads status, length and `Content-Range` of an answer to a request from `offset` on. Nothing if it is a failure.
pub(crate) fn part<B>(response: &Response<B>, offset: u64, target: &Target) -> Result<Option<Part>, UpstreamError> {
    let headers = response.headers();
    let range = || headers.get(CONTENT_RANGE)?.to_str().ok()?.parse::<ContentRange>().ok();
    match response.status() {
        StatusCode::OK => {
            let total_bytes = content_length(headers);
            if total_bytes.is_some_and(|total| total < offset) {
                return Err(UpstreamError::protocol(
                    target,
                    "shorter than the bytes already in hand",
                ));
            }
            Ok(Some(Part {
                total_bytes,
                offset,
                skip_bytes: offset,
                empty: false,
            }))
        }
        StatusCode::PARTIAL_CONTENT => match range() {
            Some(ContentRange::Part { range, total }) if range.start() <= offset => Ok(Some(Part {
                total_bytes: total,
                offset,
                skip_bytes: offset - range.start(),
                empty: false,
            })),
            _ => Err(UpstreamError::protocol(target, "206 for another range than asked for")),
        },
        StatusCode::RANGE_NOT_SATISFIABLE => match range() {
            Some(ContentRange::Unsatisfied { total }) if total == offset => Ok(Some(Part {
                total_bytes: Some(total),
                offset,
                skip_bytes: 0,
                empty: true,
            })),
            _ => Err(UpstreamError::protocol(target, format!("nothing at offset {offset}"))),
        },
        _ => Ok(None),
    }
}

impl Part {
    /// The stream of exactly what was asked for.
    pub(crate) fn stream(self, body: BodyStream) -> BlobStream {
        let stream = match (self.empty, self.skip_bytes) {
            (true, _) => BodyStream::new(stream::empty()),
            (false, 0) => body,
            (false, skip_bytes) => BodyStream::new(skip(body, skip_bytes)),
        };
        BlobStream {
            total_bytes: self.total_bytes,
            offset: self.offset,
            stream,
        }
    }
}

fn skip(body: BodyStream, skip_bytes: u64) -> impl Stream<Item = Result<Bytes, UpstreamError>> + Send {
    body.scan(skip_bytes, |left, item| {
        ready(Some(item.map(|mut bytes| {
            let cut = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            *left -= cut as u64;
            bytes.split_off(cut)
        })))
    })
    .filter(|item| ready(!item.as_ref().is_ok_and(Bytes::is_empty)))
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
