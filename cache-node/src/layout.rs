//! Keeps the layout of the cluster: the leader puts each registered node into the slot of its place among the peers.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use meta::{Command, LayoutRecord, NodeId, ReadError, SetLayout, view};
use raft::MetaHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::PeerAddress;

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Starts keeping the layout in `tasks`.
pub(crate) fn start(ledger: MetaHandle, peers: Vec<PeerAddress>, tasks: &TaskSet) {
    let stop = tasks.stop_token();
    let keeping = async move {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !ledger.status().borrow().is_leader() {
                continue;
            }
            match change(&ledger, &peers) {
                Ok(Some(layout)) => {
                    if let Err(error) = ledger.write(Command::SetLayout(layout)).await {
                        tracing::debug!(error = one_line(&error), "the layout was not set");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::error!(error = one_line(&error), "the state cannot be read"),
            }
        }
    };
    tasks.spawn("layout", async move {
        stop.run_until_cancelled_owned(keeping).await;
    });
}

fn change(ledger: &MetaHandle, peers: &[PeerAddress]) -> Result<Option<SetLayout>, ReadError> {
    let state = ledger.local();
    let members = ledger.status().borrow().members.clone();
    let nodes: Vec<_> = view::nodes(&state)?
        .into_iter()
        .filter(|(id, _)| members.contains_key(id))
        .collect();
    let nodes: Vec<_> = nodes
        .iter()
        .map(|(id, node)| (*id, node.addresses.grpc.as_str()))
        .collect();
    Ok(plan(&view::layout(&state)?, peers, &nodes))
}

/// The change that puts each node into its slot; a slot whose node is not registered keeps whom it has.
fn plan(current: &LayoutRecord, peers: &[PeerAddress], nodes: &[(NodeId, &str)]) -> Option<SetLayout> {
    let mut slots: BTreeMap<u32, NodeId> = current.slots.clone();
    for peer in peers {
        let newest = nodes
            .iter()
            .filter(|(_, address)| *address == peer.grpc_address())
            .map(|(id, _)| *id)
            .max();
        if let Some(id) = newest {
            slots.insert(peer.ordinal, id);
        }
    }
    (slots != current.slots).then_some(SetLayout {
        expected_version: current.version,
        slots,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Vec<PeerAddress> {
        let peer = |ordinal| PeerAddress {
            ordinal,
            grpc: format!("node-{ordinal}:5001"),
            registry: String::new(),
            admin: None,
        };
        (0..3).map(peer).collect()
    }

    #[test]
    fn nodes_sit_in_the_slot_of_their_place_whatever_their_id() {
        let nodes = [(NodeId::new(1), "node-0:5001"), (NodeId::new(2), "node-2:5001")];
        let change = plan(&LayoutRecord::default(), &peers(), &nodes).unwrap();
        assert_eq!(change.slots, BTreeMap::from([(0, NodeId::new(1)), (2, NodeId::new(2))]));
    }

    #[test]
    fn a_node_that_came_back_empty_takes_the_slot_of_its_former_self() {
        let current = LayoutRecord {
            version: 3,
            slots: BTreeMap::from([(0, NodeId::new(1))]),
        };
        let nodes = [(NodeId::new(1), "node-0:5001"), (NodeId::new(7), "node-0:5001")];
        let change = plan(&current, &peers(), &nodes).unwrap();
        assert_eq!((change.expected_version, change.slots[&0]), (3, NodeId::new(7)));
    }

    #[test]
    fn a_layout_that_is_right_is_left_alone() {
        let current = LayoutRecord {
            version: 3,
            slots: BTreeMap::from([(0, NodeId::new(1))]),
        };
        assert_eq!(plan(&current, &peers(), &[(NodeId::new(1), "node-0:5001")]), None);
    }
}
