//! Answers the controller and the webhook: what they may ask is told by the role in their certificate.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use daemon::runtime::one_line;
use futures::{Stream, StreamExt, stream};
use meta::{ACCESS_AT_ONCE_MAX, ChangeDesired, Command, DESIRED_AT_ONCE_MAX, DesiredImage, NodePlacement, Outcome};
use meta::{RepositoryItem, SetPlacements, view};
use oci::{ImageReference, Repository};
use proto::access::Role;
use proto::v1 as pb;
use raft::MetaHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::access::admission::{Admission, Admissions};
use crate::access::granting::{GrantError, Granted, Granting, Login, Offered};
use crate::access::role::role_of;
use crate::desired::board::{Board, Watching};
use crate::desired::platforms;
use crate::node::Caller;
use crate::tags::Tags;

/// Watchers at once: the controller's two replicas, and people.
const WATCHERS_MAX: usize = 32;
/// How often a watcher hears something, so that a dead connection is noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Changes that come within this time are told together.
const GATHER: Duration = Duration::from_millis(50);
/// Images asked about or refreshed by one call.
const REFERENCES_MAX: usize = 1000;
/// Sources asked at once for one refresh.
const REFRESHED_AT_ONCE: usize = 16;
/// How long a refresh may take; what takes longer goes on.
const REFRESH_DEADLINE: Duration = Duration::from_secs(30);
/// Ends of a whole list proposed in a row: each drops a bounded number.
const ENDS_MAX: usize = 200;

/// What the service works with.
pub(crate) struct ControlParts {
    pub(crate) ledger: MetaHandle,
    pub(crate) board: Arc<Board>,
    pub(crate) tags: Arc<Tags>,
    pub(crate) admissions: Admissions,
    pub(crate) granting: Granting,
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

type Changes = Pin<Box<dyn Stream<Item = Result<pb::ImageChanges, Status>> + Send>>;

#[tonic::async_trait]
impl pb::control_server::Control for ControlApi {
    async fn change_desired(
        &self,
        request: Request<pb::ChangeDesiredRequest>,
    ) -> Result<Response<pb::ChangeDesiredReply>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        let commands = change_commands(request.into_inner())?;
        for command in commands {
            change(&parts.ledger, command).await?;
        }
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
        let told = changes(Arc::clone(&parts.board), watching, permit);
        let stopped = self.stop.clone().cancelled_owned();
        Ok(Response::new(told.take_until(stopped).boxed()))
    }

    async fn refresh(&self, request: Request<pb::RefreshRequest>) -> Result<Response<pb::RefreshReply>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        let references = parse_references(&request.into_inner().references)?;
        let refreshed = stream::iter(references).for_each_concurrent(REFRESHED_AT_ONCE, |reference| {
            let tags = Arc::clone(&parts.tags);
            async move {
                let Some(tag) = reference.manifest().tag().cloned() else {
                    return;
                };
                if let Err(error) = tags.refresh(&reference.repository, &tag).await {
                    tracing::debug!(%reference, error = one_line(&error), "a tag was not refreshed");
                }
            }
        });
        timeout(REFRESH_DEADLINE, refreshed).await.ok();
        Ok(Response::new(pb::RefreshReply {}))
    }

    async fn admit(&self, request: Request<pb::AdmitRequest>) -> Result<Response<pb::AdmitReply>, Status> {
        let count = request.get_ref().references.len();
        let parts = match self.parts(&request, &[Role::Controller, Role::Webhook]) {
            Ok(parts) => parts,
            Err(status) if status.code() == tonic::Code::Unavailable => {
                let admissions = vec![pb::Admission::NotReady.into(); count.min(REFERENCES_MAX)];
                return Ok(Response::new(pb::AdmitReply { admissions }));
            }
            Err(status) => return Err(status),
        };
        let request = request.into_inner();
        let references = parse_references(&request.references)?;
        let admitted = parts.admissions.admit(&request.namespace, &references).await;
        let admitted = admitted.map_err(|error| Status::internal(one_line(&error)))?;
        let admissions = admitted.into_iter().map(|admission| wire(admission).into()).collect();
        Ok(Response::new(pb::AdmitReply { admissions }))
    }

    async fn grant(&self, request: Request<pb::GrantRequest>) -> Result<Response<pb::GrantReply>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        let request = request.into_inner();
        let image = parse_reference(&request.reference)?;
        let offered: Vec<Offered> = request.credentials.into_iter().map(offered).collect();
        let granted = parts.granting.grant(&request.namespace, &image, &offered).await;
        Ok(Response::new(grant_reply(granted.map_err(unwritten)?)))
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

    async fn place(&self, request: Request<pb::PlaceRequest>) -> Result<Response<pb::PlaceReply>, Status> {
        let parts = self.parts(&request, &[Role::Controller])?;
        let request = request.into_inner();
        let mut placements = request
            .placements
            .into_iter()
            .map(placement)
            .collect::<Result<Vec<_>, _>>()?;
        if request.replace {
            let fresh = parts.ledger.linearizable().await;
            fresh.map_err(|error| Status::unavailable(one_line(&error)))?;
            placements.extend(forgotten(&parts.ledger, &placements)?);
        }
        for chunk in placements.chunks(ACCESS_AT_ONCE_MAX) {
            let placements = chunk.to_vec();
            write(&parts.ledger, Command::SetPlacements(SetPlacements { placements })).await?;
        }
        Ok(Response::new(pb::PlaceReply {}))
    }
}

/// A watcher's stream: what it does not know yet, then every change, and a sign of life in between.
fn changes(board: Arc<Board>, watching: Watching, permit: OwnedSemaphorePermit) -> Changes {
    struct Watcher {
        news: watch::Receiver<u64>,
        board: Arc<Board>,
        watching: Watching,
        greeted: bool,
        _permit: OwnedSemaphorePermit,
    }
    let watcher = Watcher {
        news: board.changes(),
        board,
        watching,
        greeted: false,
        _permit: permit,
    };
    let told = stream::unfold(watcher, |mut watcher| async move {
        loop {
            watcher.news.borrow_and_update();
            if let Some(changes) = watcher.board.next(&mut watcher.watching) {
                watcher.greeted = true;
                return Some((Ok(changes), watcher));
            }
            if !watcher.greeted {
                watcher.greeted = true;
                return Some((Ok(watcher.board.keepalive(&watcher.watching)), watcher));
            }
            match timeout(KEEPALIVE, watcher.news.changed()).await {
                Ok(Ok(())) => tokio::time::sleep(GATHER).await,
                Ok(Err(_)) => return None,
                Err(_) => return Some((Ok(watcher.board.keepalive(&watcher.watching)), watcher)),
            }
        }
    });
    told.boxed()
}

/// One request as commands of bounded size: the first begins a list, the last ends it.
fn change_commands(request: pb::ChangeDesiredRequest) -> Result<Vec<ChangeDesired>, Status> {
    let platforms = request.platforms.iter().map(|text| platforms::parse(text));
    let platforms = platforms
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let put = request
        .put
        .into_iter()
        .map(|image| {
            Ok(DesiredImage {
                reference: canonical(parse_reference(&image.reference)?),
                retain: image.retain,
            })
        })
        .collect::<Result<Vec<_>, Status>>()?;
    let drop = request.drop.iter().map(|text| parse_reference(text).map(canonical));
    let drop = drop.collect::<Result<Vec<_>, _>>()?;
    let mut commands = vec![ChangeDesired {
        begin: request.replace,
        platforms,
        ..ChangeDesired::default()
    }];
    commands.extend(put.chunks(DESIRED_AT_ONCE_MAX).map(|put| ChangeDesired {
        put: put.to_vec(),
        ..ChangeDesired::default()
    }));
    commands.extend(drop.chunks(DESIRED_AT_ONCE_MAX).map(|drop| ChangeDesired {
        drop: drop.to_vec(),
        ..ChangeDesired::default()
    }));
    commands.push(ChangeDesired {
        end: request.last,
        ..ChangeDesired::default()
    });
    commands.retain(|command| *command != ChangeDesired::default());
    Ok(commands)
}

async fn change(ledger: &MetaHandle, command: ChangeDesired) -> Result<(), Status> {
    for _ in 0..ENDS_MAX {
        match write(ledger, Command::ChangeDesired(command.clone())).await? {
            Outcome::DesiredChanged { pending: true } if command.end => {}
            _ => return Ok(()),
        }
    }
    Err(Status::unavailable("the list is not ended yet"))
}

async fn write(ledger: &MetaHandle, command: Command) -> Result<Outcome, Status> {
    let written = ledger.write(command).await;
    let outcome = written.map_err(|error| Status::unavailable(one_line(&error)))?;
    outcome.accepted().map_err(|reason| rejected(&reason))
}

fn rejected(reason: &meta::Rejected) -> Status {
    match reason {
        // The leader raises it as soon as every node understands.
        meta::Rejected::FeatureLevelTooLow { .. } | meta::Rejected::NotInitialized => {
            Status::unavailable(reason.to_string())
        }
        _ => Status::invalid_argument(reason.to_string()),
    }
}

fn unwritten(error: GrantError) -> Status {
    match &error {
        GrantError::Rejected(reason) => rejected(reason),
        GrantError::Write(_) | GrantError::Behind(_) => Status::unavailable(one_line(&error)),
        GrantError::Read(_) => Status::internal(one_line(&error)),
    }
}

/// By digest where there is one, since that decides; by tag otherwise.
fn canonical(reference: ImageReference) -> ImageReference {
    match reference.digest {
        Some(_) => ImageReference { tag: None, ..reference },
        None => {
            let tag = reference.manifest().tag().cloned();
            ImageReference { tag, ..reference }
        }
    }
}

fn parse_references(texts: &[String]) -> Result<Vec<ImageReference>, Status> {
    if texts.len() > REFERENCES_MAX {
        return Err(Status::invalid_argument(format!("more than {REFERENCES_MAX} images")));
    }
    texts.iter().map(|text| parse_reference(text)).collect()
}

fn parse_reference(text: &str) -> Result<ImageReference, Status> {
    text.parse()
        .map_err(|error: oci::ReferenceError| Status::invalid_argument(one_line(&error)))
}

fn parse_repository(text: &str) -> Result<Repository, Status> {
    text.parse()
        .map_err(|error: oci::NameError| Status::invalid_argument(error.to_string()))
}

fn placement(placement: pb::Placement) -> Result<NodePlacement, Status> {
    let repositories = placement.repositories.iter().map(|text| parse_repository(text));
    Ok(NodePlacement {
        node: placement.node,
        repositories: repositories
            .map(|parsed| parsed.map(RepositoryItem))
            .collect::<Result<_, _>>()?,
    })
}

/// Known nodes that a whole list does not name, without anything.
fn forgotten(ledger: &MetaHandle, named: &[NodePlacement]) -> Result<Vec<NodePlacement>, Status> {
    let known = view::placements(&ledger.local()).map_err(|error| Status::internal(one_line(&error)))?;
    let unnamed = known.into_iter().map(|(node, _)| node);
    let unnamed = unnamed.filter(|node| named.iter().all(|placement| placement.node != *node));
    let repositories = Vec::new;
    Ok(unnamed
        .map(|node| NodePlacement {
            node,
            repositories: repositories(),
        })
        .collect())
}

fn offered(credential: pb::Credential) -> Offered {
    Offered {
        login: Login {
            username: credential.username,
            password: credential.password,
        },
        origin: credential.origin,
    }
}

fn grant_reply(granted: Granted) -> pb::GrantReply {
    let (outcome, origin, error) = match granted {
        Granted::Public => (pb::GrantOutcome::Public, String::new(), String::new()),
        Granted::Granted { origin } => (pb::GrantOutcome::Granted, origin, String::new()),
        Granted::Refused { why } => (pb::GrantOutcome::Refused, String::new(), why),
        Granted::Unreachable { why } => (pb::GrantOutcome::Unreachable, String::new(), why),
        Granted::NoKey => {
            let why = "the tier has no key to seal credentials with (access.keys_dir)";
            (pb::GrantOutcome::NoKey, String::new(), why.to_owned())
        }
    };
    pb::GrantReply {
        outcome: outcome.into(),
        origin,
        error,
    }
}

fn wire(admission: Admission) -> pb::Admission {
    match admission {
        Admission::Admitted => pb::Admission::Admitted,
        Admission::NoGrant => pb::Admission::NoGrant,
        Admission::NeedsCredentials => pb::Admission::NeedsCredentials,
        Admission::SourceUnreachable => pb::Admission::SourceUnreachable,
        Admission::NotFound => pb::Admission::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(count: usize, replace: bool, last: bool) -> pb::ChangeDesiredRequest {
        let image = |number| pb::DesiredImage {
            reference: format!("a.example/b:{number}"),
            retain: false,
        };
        pb::ChangeDesiredRequest {
            put: (0..count).map(image).collect(),
            replace,
            last,
            ..pb::ChangeDesiredRequest::default()
        }
    }

    #[test]
    fn a_long_list_is_begun_once_and_ended_once() {
        let commands = change_commands(request(DESIRED_AT_ONCE_MAX + 1, true, true)).unwrap();
        let shape: Vec<_> = commands
            .iter()
            .map(|command| (command.begin, command.put.len(), command.end))
            .collect();
        assert_eq!(
            shape,
            [
                (true, 0, false),
                (false, DESIRED_AT_ONCE_MAX, false),
                (false, 1, false),
                (false, 0, true)
            ]
        );
        assert_eq!(change_commands(request(0, false, false)).unwrap(), []);
    }

    #[test]
    fn references_are_stored_by_digest_or_by_tag() {
        let digest = oci::Digest::sha256(b"x");
        let table = [
            (format!("a.example/b:1@{digest}"), format!("a.example/b@{digest}")),
            ("nginx".to_owned(), "docker.io/library/nginx:latest".to_owned()),
        ];
        for (text, expected) in table {
            assert_eq!(canonical(parse_reference(&text).unwrap()).to_string(), expected);
        }
    }
}
