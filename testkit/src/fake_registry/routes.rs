//! One request to a fake registry: noted, refused, redirected, answered, distorted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use distribution::{Body, Client, Routes};
use futures::{FutureExt, StreamExt};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use oci::{Digest, Endpoint, ErrorCode, ErrorDocument};
use tokio::time::sleep;

use super::Shared;
use super::auth::base_url;
use super::connections::Reset;
use super::fault::{Fault, Planned, Stage};
use super::flow::{Effect, Flow, RateLimit};
use super::requests::{CONTENT_PATH, Route, Seen};

/// Answers the requests of one connection.
pub(super) struct FakeRoutes {
    pub(super) shared: Arc<Shared>,
    pub(super) reset: Arc<Reset>,
    pub(super) address: SocketAddr,
    pub(super) content_address: Option<SocketAddr>,
    pub(super) is_content: bool,
}

impl Routes for FakeRoutes {
    fn claims(&self, _head: &Parts) -> bool {
        true
    }

    async fn handle(&self, head: Parts, _body: Incoming, client: Client) -> Response<Body> {
        let seen = Seen::new(&head);
        self.shared.requests.add(seen.clone());
        let planned = self.shared.faults.pick(&seen);
        if let Some(instead) = self.before_head(planned.as_deref(), &seen).await {
            return instead;
        }
        let response = self.answer(head, &seen, client).await;
        self.distort(response, planned, &seen)
    }
}

impl FakeRoutes {
    /// What happens before there is an answer, and what is answered instead, if anything.
    async fn before_head(&self, planned: Option<&Planned>, seen: &Seen) -> Option<Response<Body>> {
        let planned = planned?;
        match &planned.fault {
            Fault::Hang(Stage::Headers) => planned.lifted.cancelled().await,
            Fault::Pause(Stage::Headers, time) => sleep(*time).await,
            Fault::Reset(Stage::Headers) => {
                self.reset.reset();
                std::future::pending().await
            }
            Fault::Status(status) => return Some(refusal(*status)),
            Fault::StatusWith(status, headers) => {
                let mut response = refusal(*status);
                for (name, value) in headers {
                    let value = HeaderValue::from_str(value).expect("a header value");
                    response.headers_mut().insert(HeaderName::from_static(name), value);
                }
                return Some(response);
            }
            Fault::Challenge => return Some(self.challenge(seen)),
            _ => (),
        }
        None
    }

    async fn answer(&self, mut head: Parts, seen: &Seen, client: Client) -> Response<Body> {
        if seen.route == Route::Token {
            return match self.shared.authority.issue(seen) {
                Some(token) => json_response(StatusCode::OK, token),
                None => refusal(401),
            };
        }
        if self.is_content {
            return match content_path(&self.shared, seen) {
                Some(path) => {
                    head.uri = path.parse().expect("an endpoint's path is a target");
                    self.shared.protocol.answer(&head, client).await
                }
                None => refusal(400),
            };
        }
        if !self.shared.authority.allows(seen) {
            return self.challenge(seen);
        }
        if let (Route::Blob(digest), Some(address)) = (&seen.route, self.content_address) {
            return redirect(digest, address);
        }
        self.shared.protocol.answer(&head, client).await
    }

    fn challenge(&self, seen: &Seen) -> Response<Body> {
        let base_url = base_url(self.shared.tls.is_some(), self.address);
        let challenge = self.shared.authority.challenge(&base_url, seen);
        let mut response = refusal(401);
        let value = HeaderValue::from_str(&challenge).expect("a challenge is a header value");
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
        response
    }

    fn distort(&self, response: Response<Body>, planned: Option<Arc<Planned>>, seen: &Seen) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        let mut size = body.size_hint().exact();
        if let Some(Fault::LieLength { delta }) = planned.as_ref().map(|planned| &planned.fault) {
            let announced = head
                .headers
                .get(CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok()?.parse().ok());
            let truth: u64 = announced.or(size).unwrap_or(0);
            let lie = truth.saturating_add_signed(*delta);
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(lie));
            // hyper cuts at the header what has no length of its own; what ends before it must say so itself.
            size = (lie > truth).then_some(lie);
        }
        if let Some(Fault::OmitHeaders(names)) = planned.as_ref().map(|planned| &planned.fault) {
            for name in names {
                head.headers.remove(*name);
            }
            // Without a known length hyper adds none.
            size = size.filter(|_| !names.contains(&CONTENT_LENGTH.as_str()));
        }
        if seen.method == Method::HEAD {
            return Response::from_parts(head, Body::empty());
        }
        let sent = match (&seen.route, head.status.is_success()) {
            (Route::Blob(digest) | Route::Content(digest), true) => self.shared.requests.sent(digest),
            _ => Arc::<AtomicU64>::default(),
        };
        let mut flow = Flow {
            source: body.into_data_stream().boxed(),
            effect: Effect::None,
            at: 0,
            rates: vec![self.shared.rate.clone()],
            sent,
        };
        if let Some(planned) = planned {
            self.apply(&planned, &mut flow);
        }
        Response::from_parts(head, Body::stream(flow.into_stream(), size))
    }

    fn apply(&self, planned: &Planned, flow: &mut Flow) {
        let place = |stage: Stage| match stage {
            Stage::Body { after_bytes } => after_bytes,
            Stage::Headers | Stage::FirstByte => 0,
        };
        (flow.effect, flow.at) = match planned.fault {
            Fault::Hang(stage @ (Stage::FirstByte | Stage::Body { .. })) => (
                Effect::Wait(planned.lifted.clone().cancelled_owned().boxed()),
                place(stage),
            ),
            Fault::Pause(stage @ (Stage::FirstByte | Stage::Body { .. }), time) => {
                (Effect::Wait(pause(time).boxed()), place(stage))
            }
            Fault::Reset(stage) => {
                let reset = Arc::clone(&self.reset);
                (Effect::Reset(Box::new(move || reset.reset())), place(stage))
            }
            Fault::Truncate { after_bytes } => (Effect::End, after_bytes),
            Fault::FlipByte { at } => (Effect::Flip, at),
            Fault::Rate { bytes_per_second } => {
                flow.rates.push(RateLimit::new(bytes_per_second));
                return;
            }
            _ => return,
        };
    }
}

async fn pause(time: Duration) {
    sleep(time).await;
}

/// The protocol's path of a blob where a redirect led, unless the client brought its credentials along.
fn content_path(shared: &Shared, seen: &Seen) -> Option<String> {
    let Route::Content(digest) = &seen.route else {
        return None;
    };
    let name = shared
        .library
        .holder(digest)
        .filter(|_| seen.header(AUTHORIZATION).is_none())?;
    Some(
        Endpoint::Blob {
            name,
            digest: digest.clone(),
        }
        .path(),
    )
}

fn redirect(digest: &Digest, address: SocketAddr) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let location = format!("http://{address}{CONTENT_PATH}{digest}?signature=fake");
    response.headers_mut().insert(
        LOCATION,
        HeaderValue::from_str(&location).expect("a URL is a header value"),
    );
    response
}

fn refusal(status: u16) -> Response<Body> {
    let code = match status {
        401 => ErrorCode::Unauthorized,
        403 => ErrorCode::Denied,
        404 => ErrorCode::ManifestUnknown,
        429 => ErrorCode::TooManyRequests,
        _ => ErrorCode::Unknown,
    };
    let status = StatusCode::from_u16(status).expect("a status code");
    json_response(status, ErrorDocument::new(code, "as the test wants it").to_json())
}

fn json_response(status: StatusCode, json: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::full(json));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
