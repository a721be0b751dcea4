//! From a blob answer to a response: ranges, and the first chunk before the head.

use bytes::Bytes;
use futures::StreamExt;
use http::header::RANGE;
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use oci::{ByteRange, ContentRange, RangeHeader, ResolvedRange};

use crate::body::Body;
use crate::conditional::EntityTag;
use crate::error::RegistryError;
use crate::registry::{BlobAnswer, BlobStream};
use crate::response::{self, Reply};

/// What of a blob a request asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) head: bool,
    range: AskedRange,
}

#[derive(Debug)]
enum AskedRange {
    /// No range, or of another unit, which a server ignores.
    Whole,
    Range(RangeHeader),
    /// `bytes=` of something that is no range. Rejecting it is what RFC 9110 allows and registries do.
    Nonsense,
}

impl Asked {
    pub(super) fn new(parts: &Parts) -> Self {
        let head = parts.method == Method::HEAD;
        // RFC 9110 defines ranges for GET alone.
        let text = parts
            .headers
            .get(RANGE)
            .filter(|_| !head)
            .map(|value| value.to_str().unwrap_or_default());
        let range = match text {
            Some(text) if text.trim_start().starts_with("bytes=") => {
                RangeHeader::parse(text).map_or(AskedRange::Nonsense, AskedRange::Range)
            }
            _ => AskedRange::Whole,
        };
        Self { head, range }
    }

    pub(super) fn hint(&self) -> Option<RangeHeader> {
        match self.range {
            AskedRange::Range(range) => Some(range),
            AskedRange::Whole | AskedRange::Nonsense => None,
        }
    }

    /// A blob of unknown length is sent whole, which every client that resumes accepts or refuses cleanly.
    fn resolve(&self, size: Option<u64>) -> ResolvedRange {
        match (&self.range, size) {
            (AskedRange::Whole, _) | (_, None) => ResolvedRange::Full,
            (AskedRange::Range(range), Some(size)) => range.resolve(size),
            (AskedRange::Nonsense, Some(_)) => ResolvedRange::Unsatisfiable,
        }
    }
}

/// Answers with the whole blob, the part asked for, or why there is neither.
pub(super) async fn respond(answer: BlobAnswer, asked: &Asked, parts: &Parts) -> Result<Response<Body>, RegistryError> {
    let tag = EntityTag::new(&answer.digest);
    if tag.none_match_fails(&parts.headers) {
        return Ok(response::not_modified(&tag, &answer.notes));
    }
    if asked.head {
        return Ok(reply(StatusCode::OK, &tag, &answer).length_only(answer.size));
    }
    let resolved = match tag.if_range_holds(&parts.headers) {
        true => asked.resolve(answer.size),
        false => ResolvedRange::Full,
    };
    match (resolved, answer.size) {
        (ResolvedRange::Partial(range), total @ Some(_)) => {
            let head =
                reply(StatusCode::PARTIAL_CONTENT, &tag, &answer).content_range(ContentRange::Part { range, total });
            Ok(head.body(start(answer, Some(range)).await?))
        }
        (ResolvedRange::Unsatisfiable, Some(size)) => Ok(response::unsatisfiable(size, &tag, &answer.notes)),
        (_, None) if parts.version < Version::HTTP_11 => {
            // Without chunks the end of the connection ends the body, and a cut one would look complete.
            Err(RegistryError::unavailable("a blob of unknown length needs HTTP/1.1"))
        }
        _ => Ok(reply(StatusCode::OK, &tag, &answer).body(start(answer, None).await?)),
    }
}

fn reply(status: StatusCode, tag: &EntityTag, answer: &BlobAnswer) -> Reply {
    Reply::new(status).blob_type().tag(tag).notes(&answer.notes)
}

/// Reads the first chunk, so that a source that fails before it still gets a status of its own.
async fn start(answer: BlobAnswer, range: Option<ByteRange>) -> Result<Body, RegistryError> {
    let owed = range.map(|range| range.len_bytes()).or(answer.size);
    if owed == Some(0) {
        return Ok(Body::empty());
    }
    let mut stream = answer.reader.read(range);
    match (first_chunk(&mut stream).await?, owed) {
        (None, None) => Ok(Body::empty()),
        (None, Some(_)) => Err(RegistryError::unavailable("the blob ended before its first byte")),
        (Some(chunk), Some(owed)) if chunk.len() as u64 > owed => {
            Err(RegistryError::unavailable("the blob is longer than announced"))
        }
        (first, owed) => Ok(Body::started(first, stream, owed)),
    }
}

async fn first_chunk(stream: &mut BlobStream) -> Result<Option<Bytes>, RegistryError> {
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if !chunk.is_empty() {
            return Ok(Some(chunk));
        }
    }
    Ok(None)
}
