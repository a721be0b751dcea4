//! Waits until a cluster that was just started can serve pulls, and says what it waits for.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use proto::report::NodeStatus;
use tokio::time::Instant;

use crate::admin_client::{AskError, ask, readiness};
use crate::cluster::{Cluster, ClusterError, node_name};
use crate::console::Console;
use crate::data_dir::DataDir;
use crate::ready_file::Members;
use crate::supervisor::{ChildState, Supervised};

/// Opening the stores after a crash and electing a leader take seconds; after this something is wrong.
const FORMING_TIMEOUT: Duration = Duration::from_secs(120);
/// Often enough that being ready is not noticed late.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// After this the person is told what is missing, also without a terminal.
const HINT_AFTER: Duration = Duration::from_secs(15);

/// Why the cluster does not come up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormationError {
    #[error("{name} did not start: {reason}; its log is {log}")]
    ChildLost { name: String, reason: String, log: String },
    #[error(
        "no quorum yet after {FORMING_TIMEOUT:?}: {missing}; look why in the logs in {logs}, then start it again: the data is kept"
    )]
    NoQuorum { missing: String, logs: String },
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// One part as it is waited for.
struct Part<'children> {
    child: &'children Supervised,
    admin: SocketAddr,
}

/// What came up.
pub(crate) struct Formed {
    pub(crate) members: Members,
    /// Parts that are not ready, with the reason; pulls work without them.
    pub(crate) missing: Vec<String>,
}

/// Waits until every node and the proxy are ready. After two minutes the proxy and a majority of nodes do.
///
/// Cancel safe.
pub(crate) async fn wait(
    cluster: &Cluster,
    data: &DataDir,
    children: &Children,
    console: &Console,
) -> Result<Formed, FormationError> {
    let started = Instant::now();
    let mut hinted = false;
    loop {
        let state = observe(cluster, children).await;
        state.check_members(cluster, data)?;
        let waited = started.elapsed();
        if let Some(formed) = state.formed(waited >= FORMING_TIMEOUT) {
            return Ok(formed);
        }
        let missing = state.missing().join("; ");
        if let Some(lost) = children.lost() {
            return Err(lost);
        }
        if waited >= FORMING_TIMEOUT {
            let logs = data.root().join("log").display().to_string();
            return Err(FormationError::NoQuorum { missing, logs });
        }
        if waited >= HINT_AFTER && !hinted {
            hinted = true;
            console.note(&format!("no quorum yet, still waiting: {missing}"));
        }
        console.awaiting(&format!("waiting for {missing}"));
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The supervised parts of a cluster, nodes in the order of ordinals.
pub(crate) struct Children {
    pub(crate) nodes: Vec<Supervised>,
    pub(crate) proxy: Supervised,
}

impl Children {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Supervised> {
        self.nodes.iter().chain([&self.proxy])
    }

    /// A child that ended for good: waiting for it is of no use.
    fn lost(&self) -> Option<FormationError> {
        self.all().find_map(|child| match child.state() {
            ChildState::Ended { reason } => Some(FormationError::ChildLost {
                name: child.name.clone(),
                reason,
                log: child.log.display().to_string(),
            }),
            ChildState::Starting | ChildState::Running { .. } | ChildState::Restarting { .. } => None,
        })
    }
}

/// What the parts said, in one round of asking.
#[derive(Debug)]
struct Observation {
    proxy: Result<(), String>,
    nodes: Vec<Result<NodeStatus, String>>,
}

async fn observe(cluster: &Cluster, children: &Children) -> Observation {
    let parts = cluster.nodes.iter().zip(&children.nodes).map(|(node, child)| Part {
        child,
        admin: node.listen.admin,
    });
    let proxy = Part {
        child: &children.proxy,
        admin: cluster.proxy.admin,
    };
    let (proxy, nodes) = tokio::join!(proxy.ready(), join_all(parts.map(Part::status)));
    Observation { proxy, nodes }
}

impl Part<'_> {
    async fn status(self) -> Result<NodeStatus, String> {
        self.ready().await?;
        let status: Result<NodeStatus, AskError> = ask(self.admin, "/status").await;
        status.map_err(|error| format!("{}: {error}", self.child.name))
    }

    async fn ready(&self) -> Result<(), String> {
        let name = &self.child.name;
        match self.child.state() {
            ChildState::Restarting { reason } | ChildState::Ended { reason } => Err(format!("{name}: {reason}")),
            ChildState::Starting => Err(format!("{name}: starting")),
            ChildState::Running { .. } => readiness(self.admin).await.map_err(|error| match error {
                AskError::Unreachable(_) => format!("{name}: starting"),
                AskError::Refused(_) | AskError::NotFound => format!("{name}: {error}"),
            }),
        }
    }
}

impl Observation {
    fn check_members(&self, cluster: &Cluster, data: &DataDir) -> Result<(), ClusterError> {
        let statuses = self.nodes.iter().flatten();
        let mut members = statuses.filter_map(|status| Some((status.ordinal, status.cluster_id.as_ref()?)));
        members.try_for_each(|(ordinal, id)| cluster.check_member(data, &node_name(ordinal), id))
    }

    fn missing(&self) -> Vec<String> {
        let nodes = self.nodes.iter().filter_map(|node| node.as_ref().err());
        nodes.chain(self.proxy.as_ref().err()).cloned().collect()
    }

    /// The cluster, if it is up: all of it, or if `degraded` will do, the proxy and a majority.
    fn formed(&self, degraded: bool) -> Option<Formed> {
        let n_ready = self
            .nodes
            .iter()
            .flatten()
            .filter(|status| status.node_id.is_some())
            .count();
        let needed = if degraded {
            self.nodes.len() / 2 + 1
        } else {
            self.nodes.len()
        };
        if self.proxy.is_err() || n_ready < needed {
            return None;
        }
        let cluster_id = self
            .nodes
            .iter()
            .flatten()
            .find_map(|status| status.cluster_id.clone())?;
        let id = |node: &Result<NodeStatus, String>| node.as_ref().ok().and_then(|status| status.node_id);
        let node_ids = self.nodes.iter().map(id).collect();
        Some(Formed {
            members: Members { cluster_id, node_ids },
            missing: self.missing(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::node_status;

    fn ready(ordinal: u32) -> Result<NodeStatus, String> {
        Ok(node_status(ordinal))
    }

    fn unready() -> Result<NodeStatus, String> {
        Err("node-2: raft: no leader yet".to_owned())
    }

    #[test]
    fn formed_when_every_part_is_ready() {
        let nodes = vec![ready(0), ready(1), ready(2)];
        let formed = Observation { proxy: Ok(()), nodes }.formed(false).unwrap();
        assert_eq!(formed.members.node_ids, [Some(1), Some(2), Some(3)]);
        assert!(formed.missing.is_empty());
    }

    #[test]
    fn majority_will_do_only_after_patience_is_over() {
        let state = Observation {
            proxy: Ok(()),
            nodes: vec![ready(0), ready(1), unready()],
        };
        assert!(state.formed(false).is_none());
        let formed = state.formed(true).unwrap();
        assert_eq!(formed.members.node_ids, [Some(1), Some(2), None]);
        assert_eq!(formed.missing, ["node-2: raft: no leader yet"]);
        let minority = Observation {
            proxy: Ok(()),
            nodes: vec![ready(0), unready(), unready()],
        };
        assert!(minority.formed(true).is_none());
    }

    #[test]
    fn no_pulls_without_the_proxy() {
        let state = Observation {
            proxy: Err("proxy: starting".to_owned()),
            nodes: vec![ready(0)],
        };
        assert!(state.formed(true).is_none());
        assert_eq!(state.missing(), ["proxy: starting"]);
    }

    #[test]
    fn node_that_has_not_joined_is_waited_for() {
        let mut joining = node_status(0);
        joining.node_id = None;
        let nodes = vec![Ok(joining)];
        assert!(Observation { proxy: Ok(()), nodes }.formed(false).is_none());
    }
}
