//! How a node becomes a member: it founds a cluster, joins one, or returns to its own.

mod plan;
mod probe;
mod start;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use meta::{BootNode, ClusterId, Command, FeatureLevel, InitCluster, NodeId, Outcome, RegisterNode, StorageId};
use proto::v1 as pb;

use crate::config::Config;
use crate::connect::Peers;
use crate::error::FormationError;
use crate::handle::MetaHandle;
use crate::identity::{Identity, IdentityStore, Member};
use crate::log_io::LogIo;
use crate::log_store::{Closed, LogStore};
use crate::open::Dependencies;
use crate::runtime::Runtime;
use crate::server::RaftService;
use crate::state_machine::StateMachine;
use crate::state_store::StateStore;
use crate::types::NodeInfo;
use plan::{Answer, Plan, plan};
use start::Started;

/// Between two looks at the peers, and between two attempts to be let in.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// How often it is tried to record something while the leader has no room for it.
const ROOM_INTERVAL: Duration = Duration::from_secs(5);

/// Makes an opened node a member.
pub struct Formation {
    run: Pin<Box<dyn Future<Output = Result<MetaHandle, FormationError>> + Send>>,
}

impl Formation {
    pub(crate) fn new(run: Pin<Box<dyn Future<Output = Result<MetaHandle, FormationError>> + Send>>) -> Self {
        Formation { run }
    }

    /// Returns when this node is a member and takes part. A node that was one before does so at once, with or without
    /// a quorum; an empty one waits until there is a cluster to join, or until every peer is there to found one.
    ///
    /// # Errors
    /// [`FormationError`], none of which goes away by itself.
    pub async fn run(self) -> Result<MetaHandle, FormationError> {
        self.run.await
    }
}

impl fmt::Debug for Formation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Formation")
    }
}

/// The state of a formation.
pub(crate) struct Founding<RT, IO, S> {
    pub(crate) config: Config,
    pub(crate) dependencies: Dependencies,
    pub(crate) identities: Arc<dyn IdentityStore>,
    pub(crate) identity: Identity,
    pub(crate) log: LogStore<IO>,
    pub(crate) closed: Closed,
    pub(crate) state: StateMachine<S>,
    pub(crate) service: RaftService,
    pub(crate) peers: Arc<Peers>,
    pub(crate) runtime: PhantomData<fn() -> RT>,
}

impl<RT: Runtime, IO: LogIo, S: StateStore> Founding<RT, IO, S> {
    pub(crate) async fn run(mut self) -> Result<MetaHandle, FormationError> {
        let member = match self.identity.member {
            Some(member) => {
                self.refuse_another_cluster(member).await?;
                member
            }
            None => self.find_a_cluster().await?,
        };
        let joiner = self.joiner();
        let identity = self.identity.clone();
        let store = Arc::clone(&self.identities);
        let service = self.service.clone();
        let started = self.start(member).await?;
        if member.is_founding {
            found(&started, &joiner).await?;
            let settled = Member {
                is_founding: false,
                ..member
            };
            let identity = Identity {
                member: Some(settled),
                ..identity
            };
            store.store(&identity).map_err(FormationError::Identity)?;
        } else if !started.was_member {
            joiner.be_admitted(&started.handle).await?;
        }
        service.admit();
        started.record_boot(&joiner);
        Ok(started.handle)
    }

    /// Waits until it is clear which cluster this empty node belongs to, and takes its place on disk.
    async fn find_a_cluster(&mut self) -> Result<Member, FormationError> {
        let mut waiting_for = String::new();
        loop {
            let answers = probe::all(&self.peers, &self.config).await;
            match plan(&self.config, &answers)? {
                Plan::Found => {
                    let cluster = ClusterId::new(self.dependencies.entropy.draw());
                    tracing::info!(%cluster, "every peer is there and empty, founding a cluster");
                    return self.settle(Member {
                        cluster,
                        node: NodeId::FIRST,
                        is_founding: true,
                    });
                }
                Plan::Join { cluster, through } => {
                    if let Some(node) = self.joiner().allocate(&through).await {
                        tracing::info!(%cluster, %node, "joining a cluster");
                        return self.settle(Member {
                            cluster,
                            node,
                            is_founding: false,
                        });
                    }
                }
                Plan::Wait { reason } if reason != waiting_for => {
                    tracing::info!(reason, "waiting to form a cluster");
                    waiting_for = reason;
                }
                Plan::Wait { .. } => {}
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Makes the membership durable, before anyone else may count on it.
    fn settle(&mut self, member: Member) -> Result<Member, FormationError> {
        self.identity.member = Some(member);
        self.identities
            .store(&self.identity)
            .map_err(FormationError::Identity)?;
        self.service.set_member(member);
        Ok(member)
    }

    /// Refuses to bring the data of one cluster into the network of another.
    async fn refuse_another_cluster(&self, member: Member) -> Result<(), FormationError> {
        let answers = probe::all(&self.peers, &self.config).await;
        let ours = member.cluster;
        let clusters: BTreeMap<&str, ClusterId> = answers
            .iter()
            .filter_map(|(address, answer)| match answer {
                Some(Answer::Member { cluster }) => Some((address.as_str(), *cluster)),
                _ => None,
            })
            .collect();
        if clusters.values().any(|cluster| *cluster == ours) {
            return Ok(());
        }
        match clusters.into_iter().next() {
            Some((peer, theirs)) => Err(FormationError::OtherCluster {
                ours,
                theirs,
                peer: peer.to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn joiner(&self) -> Joiner {
        Joiner {
            config: self.config.clone(),
            identity: self.identity.clone(),
            peers: Arc::clone(&self.peers),
        }
    }
}

/// What a node says of itself to those that let it in.
struct Joiner {
    config: Config,
    identity: Identity,
    peers: Arc<Peers>,
}

impl Joiner {
    fn request(&self, node_id: u64) -> pb::JoinRequest {
        let meta::Addresses { registry, grpc, admin } = self.config.addresses.clone();
        pb::JoinRequest {
            nonce: self.identity.nonce.to_string(),
            node_id,
            addresses: Some(pb::Addresses { registry, grpc, admin }),
            zone: self.config.zone.clone(),
            feature_level: FeatureLevel::SUPPORTED.get(),
        }
    }

    /// The id the log gives this node; `None` if nobody could ask the log.
    async fn allocate(&self, through: &[String]) -> Option<NodeId> {
        for address in through {
            match probe::join(&self.peers, address, self.request(0)).await {
                Ok(Some(joined)) => return Some(NodeId::new(joined.node_id)),
                Ok(None) => {}
                Err(status) => tracing::debug!(address, %status, "not given an id"),
            }
        }
        None
    }

    /// Asks to be a learner until the node is a member, unless it was one before.
    async fn be_admitted(&self, handle: &MetaHandle) -> Result<(), FormationError> {
        let node = handle.member().node;
        loop {
            if handle.status().borrow().members.contains_key(&node) {
                return Ok(());
            }
            for peer in self.config.other_peers() {
                match probe::join(&self.peers, &peer.address, self.request(node.get())).await {
                    Ok(Some(joined)) if joined.member => return Ok(()),
                    Ok(_) => {}
                    Err(status) => tracing::debug!(address = peer.address, %status, "not admitted"),
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Writes the first entries of a cluster. Safe to repeat: after a crash halfway, it goes on where it was.
async fn found(started: &Started, joiner: &Joiner) -> Result<(), FormationError> {
    let handle = &started.handle;
    let member = handle.member();
    let info = NodeInfo {
        address: joiner.config.addresses.grpc.clone(),
        zone: joiner.config.zone.clone(),
    };
    let initialized = handle.replica().initialize(info).await;
    initialized.map_err(|error| FormationError::Stopped {
        reason: format!("{error:?}"),
    })?;
    // Known only to this install, and never to change: the cluster's own id is as good as another number.
    let storage_id = StorageId::new(member.cluster.get());
    let init = InitCluster {
        cluster_id: member.cluster,
        epoch: 1,
        storage_id,
        feature_level: FeatureLevel::SUPPORTED,
    };
    match write(handle, Command::InitCluster(init)).await? {
        Outcome::Initialized => {}
        other => {
            return Err(FormationError::NotFounder {
                reason: format!("{other:?}"),
            });
        }
    }
    let register = RegisterNode {
        nonce: joiner.identity.nonce,
        addresses: joiner.config.addresses.clone(),
        zone: joiner.config.zone.clone(),
        feature_level: FeatureLevel::SUPPORTED,
    };
    match write(handle, Command::RegisterNode(register)).await? {
        Outcome::NodeRegistered { id } if id == member.node => Ok(()),
        other => Err(FormationError::NotFounder {
            reason: format!("{other:?}"),
        }),
    }
}

/// Writes, however long it takes to find a leader that has room.
async fn write(handle: &MetaHandle, command: Command) -> Result<Outcome, FormationError> {
    use crate::error::WriteError;
    let mut is_said = false;
    loop {
        match handle.write(command.clone()).await {
            Ok(outcome) => return Ok(outcome),
            Err(WriteError::TimedOut | WriteError::Overloaded) => {}
            Err(error @ WriteError::NoRoom) => {
                if !std::mem::replace(&mut is_said, true) {
                    tracing::warn!(%error, "this node's start waits to be recorded");
                }
                tokio::time::sleep(ROOM_INTERVAL).await;
            }
            Err(error) => {
                return Err(FormationError::Stopped {
                    reason: error.to_string(),
                });
            }
        }
    }
}

impl Started {
    /// Tells the log, as soon as there is a leader, that this node has started.
    fn record_boot(&self, joiner: &Joiner) {
        let handle = self.handle.clone();
        let command = Command::BootNode(BootNode {
            node: handle.member().node,
            boot_count: handle.boot_count(),
            last_log: self.last_log,
            feature_level: FeatureLevel::SUPPORTED,
            addresses: Some(joiner.config.addresses.clone()),
        });
        let on_fatal = Arc::clone(&self.on_fatal);
        let stop = self.tasks.stop_token();
        self.tasks.spawn("raft-record-boot", async move {
            let recorded = stop.run_until_cancelled(write(&handle, command)).await;
            match recorded {
                Some(Ok(Outcome::Rejected(reason))) => {
                    on_fatal.fatal(&format!("the cluster refuses this node: {reason}"));
                }
                Some(Ok(_)) => tracing::info!(boot = handle.boot_count(), "start recorded"),
                Some(Err(error)) => tracing::debug!(%error, "start not recorded"),
                None => {}
            }
        });
    }
}
