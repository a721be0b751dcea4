//! The ports of a node: bound first, served as their parts become ready.

use std::net::SocketAddr;

use daemon::admin::{Admin, AdminError};
use daemon::readiness::Readiness;
use daemon::runtime::one_line;
use daemon::task::TaskSet;
use daemon::telemetry::Metrics;
use distribution::{Routes, Server};
use meta::Addresses;
use proto::access::Role;
use proto::v1::control_server::ControlServer;
use proto::v1::peer_server::PeerServer;
use raft::RaftService;
use tokio::net::TcpListener;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;

use super::grpc::{self, Caller};
use super::tls::NodeTls;
use super::{Member, StartError};
use crate::access::role::role_of;
use crate::api::{ControlApi, PeerApi};
use crate::config::{AccessConfig, Config, Listen};
use crate::registry::Registry;

/// What a part answers while the node is not a member yet.
const NOT_YET: &str = "this node is not a member of a cluster yet";

/// Largest message of the controller: a whole list of desired images comes in parts.
const CONTROL_MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The open ports.
pub(super) struct Listeners {
    pub(super) registry: TcpListener,
    pub(super) client: Option<TcpListener>,
    pub(super) grpc: TcpListener,
    pub(super) admin: TcpListener,
}

impl Listeners {
    pub(super) async fn bind(listen: &Listen) -> Result<Self, StartError> {
        Ok(Self {
            registry: bind(listen.registry, "registry").await?,
            client: match listen.client {
                Some(address) => Some(bind(address, "client registry").await?),
                None => None,
            },
            grpc: bind(listen.grpc, "gRPC").await?,
            admin: bind(listen.admin, "admin").await?,
        })
    }
}

async fn bind(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen {
        address,
        purpose,
        source,
    })
}

/// Serves health, metrics and reports.
pub(super) fn start_admin(
    listener: TcpListener,
    readiness: &Readiness,
    metrics: Metrics,
    member: &Member,
    tasks: &TaskSet,
) {
    let (status, images, explain) = (member.clone(), member.clone(), member.clone());
    let not_yet = || AdminError::Unavailable(NOT_YET.to_owned());
    Admin::new(readiness.clone(), metrics)
        .json("/status", move |_| {
            let reports = status.reports.get().cloned();
            async move { Ok(reports.ok_or_else(not_yet)?.status().await) }
        })
        .json("/images", move |_| {
            let reports = images.reports.get().cloned();
            async move { reports.ok_or_else(not_yet)?.images() }
        })
        .json("/explain", move |parameters| {
            let reports = explain.reports.get().cloned();
            async move { reports.ok_or_else(not_yet)?.explain(parameters.require("image")?).await }
        })
        .start(listener, tasks);
}

/// Lets only cache nodes call what cache nodes say to each other, where roles are enforced.
#[derive(Clone, Copy)]
struct AmongNodes {
    enforce: bool,
}

impl Interceptor for AmongNodes {
    fn call(&mut self, request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        let caller: Option<&Caller> = request.extensions().get();
        let certificate = caller.and_then(|caller| caller.certificate.as_ref());
        let role = certificate.and_then(|certificate| role_of(certificate));
        if self.enforce && role != Some(Role::CacheNode) {
            return Err(tonic::Status::permission_denied("only cache nodes may"));
        }
        Ok(request)
    }
}

/// Serves consensus, peers, and the controller.
pub(super) fn start_grpc(
    listener: TcpListener,
    raft: RaftService,
    member: &Member,
    tls: Option<&NodeTls>,
    access: &AccessConfig,
    tasks: &TaskSet,
) {
    let peer = PeerServer::new(PeerApi::new(
        std::sync::Arc::clone(&member.blobs),
        std::sync::Arc::clone(&member.control),
    ));
    let among_nodes = AmongNodes {
        enforce: access.enforce && tls.is_some(),
    };
    let mut server = tonic::transport::Server::builder();
    let control = ControlServer::new(ControlApi::new(
        std::sync::Arc::clone(&member.control),
        tls.is_some(),
        tasks.stop_token(),
    ));
    let control = control.max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
    let router = server
        .add_service(InterceptedService::new(raft.into_server(), among_nodes))
        .add_service(InterceptedService::new(peer, among_nodes))
        .add_service(control);
    let incoming = grpc::incoming(listener, tls.map(NodeTls::grpc_server), tasks);
    let stop = tasks.stop_token();
    tasks.spawn_critical("grpc", async move {
        let stopped = stop.cancelled_owned();
        let served = router.serve_with_incoming_shutdown(incoming, stopped).await;
        if let Err(error) = served {
            tracing::error!(error = one_line(&error), "gRPC ended");
        }
    });
}

/// Serves the distribution protocol.
pub(super) fn start_registry<H: Routes>(
    name: &'static str,
    server: Server<Registry, H>,
    listener: TcpListener,
    tasks: &TaskSet,
) {
    tasks.spawn_critical(name, server.run(listener, tasks.stop_token()));
}

/// The settings of consensus.
pub(super) fn raft_config(config: &Config) -> raft::Config {
    let peer = |peer: &crate::config::PeerAddress| raft::Peer {
        ordinal: peer.ordinal,
        address: peer.grpc_address().to_owned(),
    };
    let own = config.own_address();
    let addresses = Addresses {
        registry: own.registry.clone(),
        grpc: own.grpc_address().to_owned(),
        admin: own.admin.clone().unwrap_or_default(),
    };
    let mut settings = raft::Config::new(config.ordinal, config.peers.iter().map(peer).collect(), addresses);
    settings.allow_genesis = config.allow_genesis;
    settings
}
