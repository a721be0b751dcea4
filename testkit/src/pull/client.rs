//! The requests of a pull, each answer checked for what it says about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use distribution::header::{DOCKER_CONTENT_DIGEST, X_KUIK_SOURCE};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, WARNING};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use oci::{Descriptor, Digest, MediaType, RawManifest};
use tokio::time::Instant;

use super::PullError;

/// One answer of a pull.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The request's method.
    pub method: Method,
    /// The request's target.
    pub target: String,
    /// The answer's status.
    pub status: StatusCode,
    /// `X-Kuik-Source`, if there was one.
    pub source: Option<String>,
    /// `Warning`, if there was one.
    pub warning: Option<String>,
    /// Until the answer's head was there.
    pub took: Duration,
}

pub(super) struct Client {
    http: HttpClient<HttpConnector, Empty<Bytes>>,
    base_url: String,
    ns: Option<String>,
    answers: Vec<Answer>,
}

impl Client {
    pub(super) fn new(base_url: &str, ns: Option<&str>) -> Self {
        Self {
            http: HttpClient::builder(TokioExecutor::new()).build_http(),
            base_url: base_url.trim_end_matches('/').to_owned(),
            ns: ns.map(str::to_owned),
            answers: Vec::new(),
        }
    }

    pub(super) fn into_answers(self) -> Vec<Answer> {
        self.answers
    }

    /// HEAD of a reference: what it points to, as a descriptor.
    pub(super) async fn resolve(&mut self, name: &str, reference: &str) -> Result<Descriptor, PullError> {
        let target = format!("/v2/{name}/manifests/{reference}");
        let response = self.send(Method::HEAD, &target).await?;
        let missing = |what: HeaderName| contradiction(&target, format!("HEAD answers no usable {what}"));
        Ok(Descriptor {
            media_type: parsed(&response, CONTENT_TYPE).ok_or_else(|| missing(CONTENT_TYPE))?,
            digest: parsed(&response, DOCKER_CONTENT_DIGEST).ok_or_else(|| missing(DOCKER_CONTENT_DIGEST))?,
            size: parsed(&response, CONTENT_LENGTH).ok_or_else(|| missing(CONTENT_LENGTH))?,
            platform: None,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            artifact_type: None,
        })
    }

    pub(super) async fn manifest(&mut self, name: &str, reference: &str) -> Result<RawManifest, PullError> {
        let target = format!("/v2/{name}/manifests/{reference}");
        let response = self.send(Method::GET, &target).await?;
        let media_type: MediaType = parsed(&response, CONTENT_TYPE)
            .ok_or_else(|| contradiction(&target, "no usable content-type".to_owned()))?;
        let announced: Option<Digest> = parsed(&response, DOCKER_CONTENT_DIGEST);
        let body = response.into_body().collect().await;
        let bytes = body.map_err(|err| broken(&Method::GET, &target, err))?.to_bytes();
        // Whatever the answer says of itself, a digest in the path is what was asked for.
        let wanted = reference
            .parse()
            .ok()
            .or(announced)
            .unwrap_or_else(|| Digest::sha256(&bytes));
        verify(&target, &wanted, &bytes)?;
        RawManifest::new(bytes, media_type).map_err(|source| PullError::Manifest { digest: wanted, source })
    }

    /// GET of a blob, each chunk shown to `see`; answers its length.
    pub(super) async fn blob(
        &mut self,
        name: &str,
        digest: &Digest,
        mut see: impl FnMut(&[u8]),
    ) -> Result<u64, PullError> {
        let target = format!("/v2/{name}/blobs/{digest}");
        let mut body = self.send(Method::GET, &target).await?.into_body();
        let mut verifier = digest
            .verifier()
            .map_err(|err| contradiction(&target, err.to_string()))?;
        let mut n_bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|err| broken(&Method::GET, &target, err))?;
            if let Some(chunk) = frame.data_ref() {
                n_bytes += chunk.len() as u64;
                verifier.update(chunk);
                see(chunk);
            }
        }
        verifier
            .finish()
            .map_err(|source| PullError::Wrong { target, source })?;
        Ok(n_bytes)
    }

    async fn send(&mut self, method: Method, target: &str) -> Result<Response<Incoming>, PullError> {
        let ns = self.ns.as_ref().map(|ns| format!("?ns={ns}")).unwrap_or_default();
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("{}{target}{ns}", self.base_url));
        for media_type in MediaType::MANIFESTS {
            request = request.header(ACCEPT, media_type);
        }
        let request = request.body(Empty::new()).map_err(|err| broken(&method, target, err))?;
        let start = Instant::now();
        let response = self
            .http
            .request(request)
            .await
            .map_err(|err| broken(&method, target, err))?;
        self.answers.push(Answer {
            method: method.clone(),
            target: target.to_owned(),
            status: response.status(),
            source: parsed(&response, X_KUIK_SOURCE),
            warning: parsed(&response, WARNING),
            took: start.elapsed(),
        });
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(contradiction(target, "the answer is content-encoded".to_owned()));
        }
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        Err(PullError::Status {
            target: target.to_owned(),
            status,
            body,
        })
    }
}

fn parsed<T: std::str::FromStr>(response: &Response<Incoming>, name: HeaderName) -> Option<T> {
    response.headers().get(name)?.to_str().ok()?.parse().ok()
}

fn verify(target: &str, digest: &Digest, bytes: &[u8]) -> Result<(), PullError> {
    let mut verifier = digest
        .verifier()
        .map_err(|err| contradiction(target, err.to_string()))?;
    verifier.update(bytes);
    verifier.finish().map_err(|source| PullError::Wrong {
        target: target.to_owned(),
        source,
    })
}

fn contradiction(target: &str, what: String) -> PullError {
    PullError::Contradiction {
        target: target.to_owned(),
        what,
    }
}

fn broken(method: &Method, target: &str, err: impl std::error::Error + Send + Sync + 'static) -> PullError {
    PullError::Broken {
        method: method.clone(),
        target: target.to_owned(),
        source: Box::new(err),
    }
}
