//! A hook for what a server answers beside the distribution protocol.

use std::future::Future;

use http::request::Parts;
use hyper::body::Incoming;

use crate::body::Body;
use crate::query::Client;

/// Answers requests outside the protocol, such as internal routes between nodes. Asked before anything else.
pub trait Routes: Send + Sync + 'static {
    /// Whether this request is answered by [`handle`](Self::handle). Called for every request: must be cheap.
    fn claims(&self, head: &Parts) -> bool;

    /// Answers a claimed request. An unread body is drained or its connection closed, as everywhere.
    fn handle(&self, head: Parts, body: Incoming, client: Client) -> impl Future<Output = http::Response<Body>> + Send;
}

/// Claims nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRoutes;

impl Routes for NoRoutes {
    fn claims(&self, _head: &Parts) -> bool {
        false
    }

    async fn handle(&self, _head: Parts, _body: Incoming, _client: Client) -> http::Response<Body> {
        http::Response::new(Body::empty())
    }
}
