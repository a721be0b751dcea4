//! The tier as the controller calls it: one node after the other, until one answers.

mod channel;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use proto::v1::control_client::ControlClient;
use proto::v1::{
    Admission, AdmitRequest, ChangeDesiredRequest, GrantInfo, GrantReply, GrantRequest, ListGrantsRequest,
    PlaceRequest, RefreshRequest, RevokeRequest,
};
use tokio::sync::watch as shared;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

pub(crate) use channel::Channels;
pub(crate) use watch::follow_images;

/// Committing through a leader that is just being elected takes a second or two.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Pages of a thousand grants: more namespaces and private repositories than a cluster has.
const GRANT_PAGES_MAX: usize = 100;
/// Several credentials are tried one after the other at a source that may be slow.
const GRANT_DEADLINE: Duration = Duration::from_secs(30);

/// Why the tier did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TierError {
    /// There are no nodes, or there is no certificate yet to show them.
    #[error("no cache node can be called yet")]
    NotYet,
    /// The last node that was asked.
    #[error("cache node {ordinal}: {message}")]
    Call {
        ordinal: u32,
        /// As the node, or the connection to it, put it.
        message: String,
    },
}

/// Calls the tier. Clones share it.
#[derive(Clone)]
pub(crate) struct Tier {
    channels: shared::Receiver<Arc<Channels>>,
}

impl Tier {
    pub(crate) fn new(channels: shared::Receiver<Arc<Channels>>) -> Self {
        Self { channels }
    }

    /// Tells which images to keep; all parts of a long list go to one node.
    pub(crate) async fn change_desired(&self, parts: Vec<ChangeDesiredRequest>) -> Result<(), TierError> {
        let send = |mut client: ControlClient<Channel>| {
            let parts = parts.clone();
            async move {
                for part in parts {
                    client.change_desired(with_deadline(part)).await?;
                }
                Ok(())
            }
        };
        self.call(send).await
    }

    /// Has images checked at their sources.
    pub(crate) async fn refresh(&self, references: Vec<String>) -> Result<(), TierError> {
        let send = |mut client: ControlClient<Channel>| {
            let request = with_deadline(RefreshRequest {
                references: references.clone(),
            });
            async move { client.refresh(request).await.map(drop) }
        };
        self.call(send).await
    }

    /// Has credentials tried at the source.
    pub(crate) async fn grant(&self, request: GrantRequest) -> Result<GrantReply, TierError> {
        let send = |mut client: ControlClient<Channel>| {
            let mut request = Request::new(request.clone());
            request.set_timeout(GRANT_DEADLINE);
            async move { client.grant(request).await.map(Response::into_inner) }
        };
        self.call(send).await
    }

    /// Lists the grants there are; nothing from nodes that cannot list them yet, as in an upgrade.
    pub(crate) async fn list_grants(&self) -> Result<Option<Vec<GrantInfo>>, TierError> {
        let send = |mut client: ControlClient<Channel>| async move {
            let mut grants: Vec<GrantInfo> = Vec::new();
            for _ in 0..GRANT_PAGES_MAX {
                let last = grants.last();
                let after = ListGrantsRequest {
                    after_repository: last.map(|last| last.repository.clone()).unwrap_or_default(),
                    after_namespace: last.map(|last| last.namespace.clone()).unwrap_or_default(),
                };
                let page = match client.list_grants(with_deadline(after)).await {
                    Err(status) if status.code() == Code::Unimplemented => return Ok(None),
                    page => page?.into_inner(),
                };
                grants.extend(page.grants);
                if !page.more {
                    break;
                }
            }
            Ok(Some(grants))
        };
        self.call(send).await
    }

    /// Forgets a grant.
    pub(crate) async fn revoke(&self, namespace: &str, repository: &str) -> Result<(), TierError> {
        let send = |mut client: ControlClient<Channel>| {
            let (namespace, repository) = (namespace.to_owned(), repository.to_owned());
            let request = with_deadline(RevokeRequest { namespace, repository });
            async move { client.revoke(request).await.map(drop) }
        };
        self.call(send).await
    }

    /// May a namespace use an image?
    pub(crate) async fn admit(&self, namespace: &str, image: &str) -> Result<Admission, TierError> {
        let send = |mut client: ControlClient<Channel>| {
            let references = vec![image.to_owned()];
            let request = with_deadline(AdmitRequest {
                namespace: namespace.to_owned(),
                references,
            });
            async move { client.admit(request).await.map(Response::into_inner) }
        };
        let reply = self.call(send).await?;
        Ok(reply.admissions().next().unwrap_or(Admission::Unspecified))
    }

    /// Tells which nodes run pods of private repositories.
    pub(crate) async fn place(&self, request: PlaceRequest) -> Result<(), TierError> {
        let send = |mut client: ControlClient<Channel>| {
            let request = with_deadline(request.clone());
            async move { client.place(request).await.map(drop) }
        };
        self.call(send).await
    }

    async fn call<T, F>(&self, send: impl Fn(ControlClient<Channel>) -> F) -> Result<T, TierError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let channels = Arc::clone(&self.channels.borrow());
        let mut last = TierError::NotYet;
        for (ordinal, channel) in channels.in_turn() {
            match send(ControlClient::new(channel)).await {
                Ok(answer) => {
                    channels.prefer(ordinal);
                    return Ok(answer);
                }
                Err(status) => {
                    let message = status.message().to_owned();
                    last = TierError::Call { ordinal, message };
                }
            }
        }
        Err(last)
    }
}

fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_DEADLINE);
    request
}
