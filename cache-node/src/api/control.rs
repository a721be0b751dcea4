//! Answers the controller and the webhook: what they may ask is told by the role in their certificate.

mod access;
mod desired;
mod wire;

use std::sync::{Arc, OnceLock};

use daemon::runtime::one_line;
use futures::StreamExt;
use proto::access::Role;
use proto::v1 as pb;
use raft::MetaHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::access::admission::Admissions;
use crate::access::granting::{Granting, Offered};
use crate::access::liveness::Liveness;
use crate::access::register::Register;
use crate::access::role::role_of;
use crate::desired::board::{Board, Watching};
use crate::node::Caller;
use crate::tags::Tags;
use desired::Changes;
use wire::{REFERENCES_MAX, parse_reference, parse_references, parse_repository, unwritten};

/// Watchers at once: the controller's two replicas, and people.
const WATCHERS_MAX: usize = 32;

/// What the service works with.
pub(crate) struct ControlParts {
    pub(crate) ledger: MetaHandle,
    pub(crate) board: Arc<Board>,
    pub(crate) tags: Arc<Tags>,
    pub(crate) admissions: Admissions,
    pub(crate) granting: Granting,
    pub(crate) register: Register,
    pub(crate) liveness: Arc<Liveness>,
}

/// Answers the controller and the webhook.
pub(crate) struct ControlApi {
    parts: Arc<OnceLock<Arc<ControlParts>>>,
    /// Without certificates nobody can be told from anybody, and everyone may.
    has_tls: bool,
    watchers: Arc<Semaphore>,
    /// Ends watches, which would hold the server up for ever.
    stop: CancellationToken,
}

impl ControlApi {
    /// Answers from `parts`, once they are there.
    pub(crate) fn new(parts: Arc<OnceLock<Arc<ControlParts>>>, has_tls: bool, stop: CancellationToken) -> Self {
        Self {
            stop,
            parts,
            has_tls,
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
        }
    }

    fn parts<T>(&self, request: &Request<T>, allowed: &[Role]) -> Result<Arc<ControlParts>, Status> {
        if self.has_tls {
            let caller: Option<&Caller> = request.extensions().get();
            let certificate = caller.and_then(|caller| caller.certificate.as_ref());
            let role = certificate.and_then(|certificate| role_of(certificate));
            if !role.is_some_and(|role| allowed.contains(&role)) {
                return Err(Status::permission_denied("the certificate does not say that it may"));
            }
        }
        let parts = self.parts.get().cloned();
        parts.ok_or_else(|| Status::unavailable("not a member of a cluster yet"))
    }
}

#[tonic::async_trait]
impl pb::control_server::Control for ControlApi {
    async fn change_desired(
        &self,
        request: Request<pb::ChangeDesiredRequest>,
    ) -> Result<Response<pb::ChangeDesiredReply>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        desired::change_all(&parts.ledger, request.into_inner()).await?;
        Ok(Response::new(pb::ChangeDesiredReply {}))
    }

    type WatchImagesStream = Changes;

    async fn watch_images(
        &self,
        request: Request<pb::WatchImagesRequest>,
    ) -> Result<Response<Self::WatchImagesStream>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        let permit = Arc::clone(&self.watchers).try_acquire_owned();
        let permit = permit.map_err(|_| Status::resource_exhausted("too many watchers"))?;
        let watching = Watching::from(&request.into_inner().resume);
        let told = desired::changes(Arc::clone(&parts.board), watching, permit);
        let stopped = self.stop.clone().cancelled_owned();
        Ok(Response::new(told.take_until(stopped).boxed()))
    }

    async fn refresh(&self, request: Request<pb::RefreshRequest>) -> Result<Response<pb::RefreshReply>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        desired::refresh(&parts.tags, &request.into_inner().references).await?;
        Ok(Response::new(pb::RefreshReply {}))
    }

    async fn admit(&self, request: Request<pb::AdmitRequest>) -> Result<Response<pb::AdmitReply>, Status> {
        let count = request.get_ref().references.len();
        let parts = match self.parts(&request, &[Role::Controller, Role::Webhook]) {
            Ok(parts) => parts,
            // Of no image nothing can be said, so whoever asks for nothing hears it by the status.
            Err(status) if status.code() == tonic::Code::Unavailable && count > 0 => {
                let admissions = vec![pb::Admission::NotReady.into(); count.min(REFERENCES_MAX)];
                let reasons = Vec::new();
                return Ok(Response::new(pb::AdmitReply { admissions, reasons }));
            }
            Err(status) => return Err(status),
        };
        let request = request.into_inner();
        let references = parse_references(&request.references)?;
        let admitted = parts.admissions.admit(&request.namespace, &references).await;
        let admitted = admitted.map_err(|error| Status::internal(one_line(&error)))?;
        Ok(Response::new(access::admit_reply(&admitted)))
    }

    async fn grant(&self, request: Request<pb::GrantRequest>) -> Result<Response<pb::GrantReply>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        let request = request.into_inner();
        let image = parse_reference(&request.reference)?;
        let offered: Vec<Offered> = request.credentials.into_iter().map(access::offered).collect();
        let granted = parts.granting.grant(&request.namespace, &image, &offered).await;
        Ok(Response::new(access::grant_reply(granted.map_err(unwritten)?)))
    }

    async fn revoke(&self, request: Request<pb::RevokeRequest>) -> Result<Response<pb::RevokeReply>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        let request = request.into_inner();
        let repository = match request.repository.as_str() {
            "" => None,
            text => Some(parse_repository(text)?),
        };
        let revoked = parts.granting.revoke(&request.namespace, repository.as_ref()).await;
        revoked.map_err(unwritten)?;
        Ok(Response::new(pb::RevokeReply {}))
    }

    async fn list_grants(
        &self,
        request: Request<pb::ListGrantsRequest>,
    ) -> Result<Response<pb::ListGrantsReply>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        let request = request.into_inner();
        let after = match request.after_repository.as_str() {
            "" => None,
            text => Some((parse_repository(text)?, request.after_namespace)),
        };
        let after = after
            .as_ref()
            .map(|(repository, namespace)| (repository, namespace.as_str()));
        let page = parts.register.page(after).await.map_err(unwritten)?;
        Ok(Response::new(access::page(page)))
    }

    async fn place(&self, request: Request<pb::PlaceRequest>) -> Result<Response<pb::PlaceReply>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        access::place(&parts.ledger, request.into_inner()).await?;
        parts.liveness.hear();
        Ok(Response::new(pb::PlaceReply {}))
    }
}

#[cfg(test)]
mod tests {
    use pb::control_server::Control as _;

    use super::*;

    #[tokio::test]
    async fn node_that_is_no_member_yet_says_so_whatever_it_is_asked_about() {
        let api = ControlApi::new(Arc::default(), false, CancellationToken::new());
        let admit = async |references: &[&str]| {
            let request = pb::AdmitRequest {
                references: references.iter().map(|&text| text.to_owned()).collect(),
                ..pb::AdmitRequest::default()
            };
            api.admit(Request::new(request)).await.map(Response::into_inner)
        };
        let admissions = admit(&["nginx", "redis"]).await.unwrap().admissions;
        assert_eq!(admissions, [pb::Admission::NotReady as i32; 2]);
        assert_eq!(admit(&[]).await.unwrap_err().code(), tonic::Code::Unavailable);
    }
}
