//! Domain answers as HTTP responses: headers, ranges, error documents.
//!
//! `Content-Length` is hyper's to add from the body's length; it is set here only where no body follows (`HEAD`).
//! Nothing is ever content-encoded: that would drop the length and break ranges.

use std::fmt::Write;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, LINK, RETRY_AFTER,
    WARNING,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use oci::{ContentRange, Endpoint, ErrorCode, ErrorDocument, MediaType};

use crate::body::Body;
use crate::conditional::EntityTag;
use crate::error::RegistryError;
use crate::header::{
    DOCKER_CONTENT_DIGEST, DOCKER_DISTRIBUTION_API_VERSION, OCI_FILTERS_APPLIED, OCI_NAMESPACE, X_CACHE_INDEX,
    X_KUIK_SOURCE,
};
use crate::notes::Notes;
use crate::query::{RequestContext, TagsQuery};
use crate::registry::{ManifestAnswer, ReferrersAnswer, TagList};

const VERSION: HeaderValue = HeaderValue::from_static("registry/2.0");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTET_STREAM: HeaderValue = HeaderValue::from_static(MediaType::OCTET_STREAM);
const OCI_INDEX: HeaderValue = HeaderValue::from_static(MediaType::OCI_INDEX);
const BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// More headers than any answer here carries, hyper's own two included, so that the map never grows.
const N_HEADERS: usize = 16;

/// An answer under construction: every one begins with what every `/v2` answer carries.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
}

impl Reply {
    pub(crate) fn new(status: StatusCode) -> Self {
        let mut headers = HeaderMap::with_capacity(N_HEADERS);
        headers.insert(DOCKER_DISTRIBUTION_API_VERSION, VERSION);
        Self { status, headers }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn tag(self, tag: &EntityTag) -> Self {
        self.header(ETAG, tag.quoted())
            .header(DOCKER_CONTENT_DIGEST, tag.digest())
    }

    pub(crate) fn notes(mut self, notes: &Notes) -> Self {
        if let Some(index) = notes.cache_index {
            self.headers.insert(X_CACHE_INDEX, text_value(&index.to_string()));
        }
        if let Some(warning) = notes.warning {
            self.headers.insert(WARNING, HeaderValue::from_static(warning.as_str()));
        }
        if let Some(source) = notes.source {
            self.headers
                .insert(X_KUIK_SOURCE, HeaderValue::from_static(source.as_str()));
        }
        self
    }

    pub(crate) fn blob_type(self) -> Self {
        self.header(CONTENT_TYPE, OCTET_STREAM).header(ACCEPT_RANGES, BYTES)
    }

    pub(crate) fn content_range(self, range: ContentRange) -> Self {
        self.header(CONTENT_RANGE, text_value(&range.to_string()))
    }

    pub(crate) fn body(self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// Ends the reply with bytes, or for `head` with their length alone.
    pub(crate) fn bytes(self, bytes: Bytes, head: bool) -> Response<Body> {
        if head {
            self.length_only(Some(bytes.len() as u64))
        } else {
            self.body(Body::full(bytes))
        }
    }

    pub(crate) fn length_only(self, size: Option<u64>) -> Response<Body> {
        match size {
            Some(size) => self.header(CONTENT_LENGTH, HeaderValue::from(size)).body(Body::empty()),
            None => self.body(Body::empty()),
        }
    }
}

/// `/v2/`: the protocol is spoken here.
pub(crate) fn base(head: bool) -> Response<Body> {
    Reply::new(StatusCode::OK)
        .header(CONTENT_TYPE, JSON)
        .bytes(Bytes::from_static(b"{}"), head)
}

pub(crate) fn not_modified(tag: &EntityTag, notes: &Notes) -> Response<Body> {
    Reply::new(StatusCode::NOT_MODIFIED)
        .tag(tag)
        .notes(notes)
        .body(Body::empty())
}

pub(crate) fn manifest(answer: ManifestAnswer, tag: &EntityTag, head: bool) -> Response<Body> {
    let reply = Reply::new(StatusCode::OK)
        .header(CONTENT_TYPE, media_type_value(&answer.media_type))
        .tag(tag)
        .notes(&answer.notes);
    if head {
        reply.length_only(Some(answer.size))
    } else {
        reply.body(Body::full(answer.bytes))
    }
}

pub(crate) fn tags(list: &TagList, query: TagsQuery, head: bool) -> Response<Body> {
    let mut reply = Reply::new(StatusCode::OK).header(CONTENT_TYPE, JSON).notes(&list.notes);
    let json = tags_json(list, &query);
    if let Some(last) = list.tags.last().filter(|_| list.more) {
        let n = query.limit.unwrap_or(list.tags.len()) as u64;
        let next = Endpoint::TagsList {
            name: query.name,
            n: Some(n),
            last: Some(last.clone()),
        }
        .path();
        let ns = query.context.ns.map(|ns| format!("&ns={ns}")).unwrap_or_default();
        reply = reply.header(LINK, text_value(&format!("<{next}{ns}>; rel=\"next\"")));
    }
    reply.bytes(json.into(), head)
}

/// Names and tags hold no character that JSON escapes, by their grammar.
fn tags_json(list: &TagList, query: &TagsQuery) -> String {
    let mut json = format!("{{\"name\":\"{}\",\"tags\":[", query.name);
    for (i, tag) in list.tags.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(json, "{comma}\"{tag}\"").expect("writing to a string cannot fail");
    }
    json.push_str("]}");
    json
}

pub(crate) fn referrers(answer: ReferrersAnswer, head: bool) -> Response<Body> {
    let mut reply = Reply::new(StatusCode::OK)
        .header(CONTENT_TYPE, OCI_INDEX)
        .notes(&answer.notes);
    if answer.filtered {
        reply = reply.header(OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    reply.bytes(answer.index, head)
}

pub(crate) fn unsatisfiable(size: u64, tag: &EntityTag, notes: &Notes) -> Response<Body> {
    let reply = Reply::new(StatusCode::RANGE_NOT_SATISFIABLE)
        .tag(tag)
        .notes(notes)
        .content_range(ContentRange::Unsatisfied { total: size });
    document(reply, ErrorCode::RangeInvalid, "range not satisfiable", None, false)
}

/// A failure the port reported. `detail` is what was asked for.
pub(crate) fn failure(err: &RegistryError, detail: Option<String>, head: bool) -> Response<Body> {
    let (status, code) = err.status();
    let mut reply = Reply::new(status);
    if let RegistryError::Unavailable {
        retry_after: Some(after),
        ..
    } = err
    {
        reply = reply.header(
            RETRY_AFTER,
            HeaderValue::from(after.as_millis().div_ceil(1000).max(1) as u64),
        );
    }
    document(reply, code, &err.to_string(), detail, head)
}

pub(crate) fn method_not_allowed(head: bool) -> Response<Body> {
    let reply = Reply::new(StatusCode::METHOD_NOT_ALLOWED).header(ALLOW, HeaderValue::from_static("GET, HEAD"));
    document(
        reply,
        ErrorCode::Unsupported,
        "the operation is unsupported",
        None,
        head,
    )
}

/// Ends a reply with the error document of the distribution-spec, which every 4xx and 5xx carries.
pub(crate) fn document(
    reply: Reply,
    code: ErrorCode,
    message: &str,
    detail: Option<String>,
    head: bool,
) -> Response<Body> {
    let mut document = ErrorDocument::new(code, message);
    if let (Some(entry), Some(detail)) = (document.errors.first_mut(), detail) {
        entry.detail = detail.into();
    }
    reply.header(CONTENT_TYPE, JSON).bytes(document.to_json().into(), head)
}

/// Adds what depends on the request alone.
pub(crate) fn finish(response: &mut Response<Body>, context: &RequestContext) {
    if let Some(ns) = &context.ns {
        response.headers_mut().insert(OCI_NAMESPACE, text_value(ns.as_str()));
    }
}

/// Says that this connection ends here.
pub(crate) fn close(response: &mut Response<Body>) {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
}

fn media_type_value(media_type: &MediaType) -> HeaderValue {
    MediaType::MANIFESTS
        .into_iter()
        .find(|known| *known == media_type.as_str())
        .map_or_else(|| text_value(media_type.as_str()), HeaderValue::from_static)
}

/// A header of text whose grammar allows nothing else than visible ASCII.
fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("hosts, names, tags, media types and numbers are visible ASCII")
}
