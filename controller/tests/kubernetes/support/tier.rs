//! A cache node that remembers what it is told and says what the test wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use proto::v1::control_server::{Control, ControlServer};
use proto::v1::*;
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::{Request, Response, Status};

/// What a fake node was told, and what it answers.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) desired: BTreeMap<String, bool>,
    pub(crate) platforms: Vec<String>,
    pub(crate) refreshed: Vec<String>,
    pub(crate) grants: Vec<GrantRequest>,
    /// Grants by repository.
    pub(crate) held: BTreeMap<String, GrantInfo>,
    pub(crate) n_whole_places: usize,
    pub(crate) places: BTreeMap<String, Vec<String>>,
    pub(crate) states: BTreeMap<String, ImageState>,
}

/// A fake node; clones are the same one.
#[derive(Clone)]
pub(crate) struct FakeTier {
    told: Arc<Mutex<Told>>,
    changes: broadcast::Sender<ImageChanges>,
}

impl FakeTier {
    /// Starts one that serves without TLS.
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let fake = Self {
            told: Arc::default(),
            changes: broadcast::channel(64).0,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(ControlServer::new(fake.clone()));
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (fake, address)
    }

    /// What it was told.
    pub(crate) fn told<T>(&self, look: impl FnOnce(&Told) -> T) -> T {
        look(&self.told.lock().unwrap())
    }

    /// Says this of an image from now on.
    pub(crate) fn say(&self, state: ImageState) {
        self.told
            .lock()
            .unwrap()
            .states
            .insert(state.reference.clone(), state.clone());
        let _nobody_listens = self.changes.send(ImageChanges {
            changed: vec![state],
            synced: true,
            ..Default::default()
        });
    }
}

#[tonic::async_trait]
impl Control for FakeTier {
    type WatchImagesStream = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<ImageChanges, Status>> + Send>>;

    async fn change_desired(
        &self,
        request: Request<ChangeDesiredRequest>,
    ) -> Result<Response<ChangeDesiredReply>, Status> {
        let request = request.into_inner();
        let mut told = self.told.lock().unwrap();
        if request.replace {
            told.desired.clear();
        }
        for reference in &request.drop {
            told.desired.remove(reference);
        }
        told.desired
            .extend(request.put.into_iter().map(|image| (image.reference, image.retain)));
        if !request.platforms.is_empty() {
            told.platforms = request.platforms;
        }
        Ok(Response::new(ChangeDesiredReply {}))
    }

    async fn watch_images(&self, _: Request<WatchImagesRequest>) -> Result<Response<Self::WatchImagesStream>, Status> {
        let later = BroadcastStream::new(self.changes.subscribe())
            .filter_map(Result::ok)
            .map(Ok);
        let all = self.told(|told| told.states.values().cloned().collect());
        let all = ImageChanges {
            from_beginning: true,
            changed: all,
            synced: true,
            ..Default::default()
        };
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(all)).chain(later))))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<RefreshReply>, Status> {
        self.told
            .lock()
            .unwrap()
            .refreshed
            .extend(request.into_inner().references);
        Ok(Response::new(RefreshReply {}))
    }

    async fn admit(&self, request: Request<AdmitRequest>) -> Result<Response<AdmitReply>, Status> {
        let admissions = vec![Admission::Admitted.into(); request.into_inner().references.len()];
        let reasons = Vec::new();
        Ok(Response::new(AdmitReply { admissions, reasons }))
    }

    async fn grant(&self, request: Request<GrantRequest>) -> Result<Response<GrantReply>, Status> {
        let request = request.into_inner();
        let origin = request.credentials[0].origin.clone();
        let repository = request.reference.rsplit_once(':').unwrap().0.to_owned();
        let verified_at_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
        let held = GrantInfo {
            repository,
            namespace: request.namespace.clone(),
            origin: origin.clone(),
            verified_at_ms,
            ..Default::default()
        };
        let has_it = !request.reference.ends_with("typo");
        self.told.lock().unwrap().grants.push(request);
        if !has_it {
            return Ok(Response::new(GrantReply {
                outcome: GrantOutcome::Refused.into(),
                error: "the source has no such image".to_owned(),
                ..Default::default()
            }));
        }
        self.told.lock().unwrap().held.insert(held.repository.clone(), held);
        Ok(Response::new(GrantReply {
            outcome: GrantOutcome::Granted.into(),
            origin,
            error: String::new(),
        }))
    }

    async fn revoke(&self, _: Request<RevokeRequest>) -> Result<Response<RevokeReply>, Status> {
        Ok(Response::new(RevokeReply {}))
    }

    async fn list_grants(&self, _: Request<ListGrantsRequest>) -> Result<Response<ListGrantsReply>, Status> {
        let grants = self.told(|told| told.held.values().cloned().collect());
        Ok(Response::new(ListGrantsReply { grants, more: false }))
    }

    async fn place(&self, request: Request<PlaceRequest>) -> Result<Response<PlaceReply>, Status> {
        let request = request.into_inner();
        let mut told = self.told.lock().unwrap();
        if request.replace {
            told.n_whole_places += 1;
            told.places.clear();
        }
        for mut one in request.placements {
            if request.add {
                one.repositories
                    .extend(told.places.remove(&one.node).unwrap_or_default());
            }
            told.places.insert(one.node, one.repositories);
        }
        Ok(Response::new(PlaceReply {}))
    }
}
