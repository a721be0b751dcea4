//! A cache node that only knows `Admit`, and behaves as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proto::v1::control_server::{Control, ControlServer};
use proto::v1::*;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::certificates::Authority;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Everything is admitted but what names `private`.
    Answers,
    NotReady,
    Refuses,
    Hangs,
    /// Answers for one image, however many were asked.
    Miscounts,
}

/// What a node says that cannot serve.
pub const WHY_NOT_READY: &str = "no controller was heard for a while";

#[derive(Clone)]
pub struct FakeControl {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<AdmitRequest>>>,
    n_probes: Arc<AtomicUsize>,
    pub address: SocketAddr,
}

impl FakeControl {
    pub async fn start(mood: Mood) -> Self {
        Self::serve(mood, Server::builder()).await
    }

    pub async fn start_tls(mood: Mood, authority: &Authority) -> Self {
        let leaf = authority.issue("cache-node.kuik.internal");
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(leaf.cert, leaf.key))
            .client_ca_root(Certificate::from_pem(authority.pem()));
        Self::serve(mood, Server::builder().tls_config(tls).unwrap()).await
    }

    async fn serve(mood: Mood, mut server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = Self {
            mood: Arc::new(Mutex::new(mood)),
            asked: Arc::default(),
            n_probes: Arc::default(),
            address: listener.local_addr().unwrap(),
        };
        let router = server.add_service(ControlServer::new(control.clone()));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        control
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// How often it was asked about no image at all.
    pub fn probes(&self) -> usize {
        self.n_probes.load(Ordering::Relaxed)
    }

    pub fn asked(&self) -> Vec<AdmitRequest> {
        self.asked.lock().unwrap().clone()
    }
}

fn admission(reference: &str) -> Admission {
    if reference.contains("private") {
        Admission::NoGrant
    } else {
        Admission::Admitted
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Control for FakeControl {
    type WatchImagesStream = tokio_stream::Empty<Result<ImageChanges, Status>>;

    async fn admit(&self, request: Request<AdmitRequest>) -> Answer<AdmitReply> {
        let request = request.into_inner();
        let mood = *self.mood.lock().unwrap();
        if request.references.is_empty() {
            self.n_probes.fetch_add(1, Ordering::Relaxed);
            if mood == Mood::NotReady {
                return Err(Status::unavailable("told not to be ready"));
            }
        } else {
            self.asked.lock().unwrap().push(request.clone());
        }
        let number = |admission: Admission| i32::from(admission);
        let admissions = match mood {
            Mood::Answers => request
                .references
                .iter()
                .map(|image| number(admission(image)))
                .collect(),
            Mood::NotReady => request.references.iter().map(|_| number(Admission::NotReady)).collect(),
            Mood::Miscounts => vec![number(Admission::Admitted)],
            Mood::Refuses => return Err(Status::unavailable("told to refuse")),
            Mood::Hangs => std::future::pending().await,
        };
        let reasons = match mood {
            Mood::NotReady => vec![WHY_NOT_READY.to_owned(); request.references.len()],
            _ => Vec::new(),
        };
        Ok(Response::new(AdmitReply { admissions, reasons }))
    }

    async fn change_desired(&self, _: Request<ChangeDesiredRequest>) -> Answer<ChangeDesiredReply> {
        Err(Status::unimplemented(""))
    }

    async fn watch_images(&self, _: Request<WatchImagesRequest>) -> Answer<Self::WatchImagesStream> {
        Err(Status::unimplemented(""))
    }

    async fn refresh(&self, _: Request<RefreshRequest>) -> Answer<RefreshReply> {
        Err(Status::unimplemented(""))
    }

    async fn grant(&self, _: Request<GrantRequest>) -> Answer<GrantReply> {
        Err(Status::unimplemented(""))
    }

    async fn revoke(&self, _: Request<RevokeRequest>) -> Answer<RevokeReply> {
        Err(Status::unimplemented(""))
    }

    async fn list_grants(&self, _: Request<ListGrantsRequest>) -> Answer<ListGrantsReply> {
        Err(Status::unimplemented(""))
    }

    async fn place(&self, _: Request<PlaceRequest>) -> Answer<PlaceReply> {
        Err(Status::unimplemented(""))
    }
}
