//! The tier as one node sees it: who sits where, who lives, and whose a digest is.
//!
//! Who owns a fill is each node's opinion, made here from the placement and from who answered lately. A wrong opinion
//! costs a second fetch, never a wrong byte.

use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemon::task::TaskSet;
use meta::placement;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use upstream::{NodeClient, NodeUrl, NodeUrlError};

use crate::config::PeerAddress;

/// How often each peer is asked whether it lives. A dead one is noticed by this or by the first request to it.
const PING_EVERY: Duration = Duration::from_millis(500);

/// How long a node that starts waits to hear of the others. They ping each other every half second.
const SETTLE_MAX: Duration = Duration::from_secs(3);
/// How often it looks.
const SETTLE_POLL: Duration = Duration::from_millis(20);

/// How long after a node came back another may still be at a fetch that it took over: long enough for ten gigabytes at
/// 100 Mb/s.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(15 * 60);

/// One cache node's place, from 0; also its slot in the layout.
pub type Ordinal = u32;

/// The nodes of the tier, and which of them answer.
pub struct Tier {
    own: Ordinal,
    copies: usize,
    peers: Vec<Peer>,
    came_back: Option<Instant>,
}

/// Another cache node, or this one.
pub struct Peer {
    /// Its place.
    pub ordinal: Ordinal,
    /// Its registry, for bytes.
    pub registry: NodeUrl,
    /// Its gRPC port, for control.
    pub grpc: String,
    alive: AtomicBool,
    /// It has answered since this node started.
    heard: AtomicBool,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seat {
    /// This node's.
    Own,
    /// Another node's.
    Peer(Ordinal),
}

/// A peer's registry URL cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("registry url of peer {ordinal}")]
pub struct PeerUrlError {
    ordinal: Ordinal,
    source: NodeUrlError,
}

impl Tier {
    /// Makes the view of node `own`. Peers count as living until they do not answer.
    ///
    /// # Errors
    /// [`PeerUrlError`] naming the peer.
    pub fn new(own: Ordinal, copies: NonZeroU8, peers: &[PeerAddress]) -> Result<Self, PeerUrlError> {
        let peer = |address: &PeerAddress| {
            let registry = address.registry.parse().map_err(|source| PeerUrlError {
                ordinal: address.ordinal,
                source,
            })?;
            Ok(Peer {
                ordinal: address.ordinal,
                registry,
                grpc: address.grpc.clone(),
                alive: AtomicBool::new(true),
                heard: AtomicBool::new(false),
            })
        };
        let peers = peers.iter().map(peer).collect::<Result<Vec<_>, _>>()?;
        let copies = usize::from(copies.get()).min(peers.len());
        Ok(Self {
            own,
            copies,
            peers,
            came_back: None,
        })
    }

    /// Notes that this node was here before, and has been away until now.
    pub fn after_absence(self) -> Self {
        Self {
            came_back: Some(Instant::now()),
            ..self
        }
    }

    /// Whether another node may still be at a fetch that it took over while this one was away.
    pub fn has_come_back_lately(&self) -> bool {
        self.came_back.is_some_and(|at| at.elapsed() < TAKEN_OVER_MAX)
    }

    /// This node's place.
    pub fn own(&self) -> Ordinal {
        self.own
    }

    /// Copies wanted of each blob: never more than there are nodes.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// All places in the order in which they are responsible for `key` (a digest, or `repository:tag`).
    pub fn ranking(&self, key: &str) -> Vec<Ordinal> {
        placement::rank(self.peers.iter().map(|peer| peer.ordinal), key.as_bytes())
    }

    /// The places that keep a copy of `key`.
    pub fn holders(&self, key: &str) -> Vec<Ordinal> {
        let mut ranking = self.ranking(key);
        ranking.truncate(self.copies);
        ranking
    }

    /// Whether this node keeps a copy of `key`.
    pub fn is_holder(&self, key: &str) -> bool {
        self.holders(key).contains(&self.own)
    }

    /// The first place for `key` whose node lives. This node always does.
    pub fn owner(&self, key: &str) -> Seat {
        let first = self.ranking(key).into_iter().find(|ordinal| self.is_alive(*ordinal));
        match first {
            Some(ordinal) if ordinal != self.own => Seat::Peer(ordinal),
            _ => Seat::Own,
        }
    }

    /// Whether a node answered lately.
    pub fn is_alive(&self, ordinal: Ordinal) -> bool {
        ordinal == self.own
            || self
                .peer(ordinal)
                .is_some_and(|peer| peer.alive.load(Ordering::Relaxed))
    }

    /// Records that a node did not answer; it counts as dead until it does.
    pub fn mark_dead(&self, ordinal: Ordinal) {
        if let Some(peer) = self.peer(ordinal)
            && peer.alive.swap(false, Ordering::Relaxed)
        {
            tracing::warn!(peer = ordinal, "cache node does not answer");
        }
    }

    /// Waits until every other node has answered, at most [`SETTLE_MAX`]. Nodes that start together see each other
    /// silent at first; who serves with that opinion fetches what another fetches too.
    pub async fn settle(&self) {
        let all_heard = async {
            while !self
                .others()
                .all(|peer| peer.heard.load(Ordering::Relaxed) && self.is_alive(peer.ordinal))
            {
                sleep(SETTLE_POLL).await;
            }
        };
        // Whether by then or not: a node that is gone must not hold up the others.
        timeout(SETTLE_MAX, all_heard).await.ok();
    }

    /// Where a node is reached.
    pub fn peer(&self, ordinal: Ordinal) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.ordinal == ordinal)
    }

    /// All nodes but this one.
    pub fn others(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.ordinal != self.own)
    }

    fn mark_alive(&self, ordinal: Ordinal) {
        let Some(peer) = self.peer(ordinal) else { return };
        peer.heard.store(true, Ordering::Relaxed);
        if !peer.alive.swap(true, Ordering::Relaxed) {
            tracing::info!(peer = ordinal, "cache node answers again");
        }
    }
}

/// Starts asking each peer whether it lives, until `tasks` stop.
pub fn start_pings(tier: &Arc<Tier>, nodes: &NodeClient, tasks: &TaskSet) {
    for peer in tier.others() {
        let (tier, nodes, stop) = (Arc::clone(tier), nodes.clone(), tasks.stop_token());
        let (ordinal, url) = (peer.ordinal, peer.registry.clone());
        tasks.spawn("peer ping", async move {
            let mut ticks = interval(PING_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                if nodes.ping(&url).await {
                    tier.mark_alive(ordinal);
                } else {
                    tier.mark_dead(ordinal);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(own: Ordinal, copies: u8, n: u32) -> Tier {
        let address = |ordinal| PeerAddress {
            ordinal,
            grpc: format!("http://127.0.0.1:{}", 5100 + ordinal),
            registry: format!("http://127.0.0.1:{}", 5000 + ordinal),
            admin: None,
        };
        let peers: Vec<_> = (0..n).map(address).collect();
        Tier::new(own, copies.try_into().unwrap(), &peers).unwrap()
    }

    fn digest(text: &str) -> String {
        oci::Digest::sha256(text.as_bytes()).to_string()
    }

    #[test]
    fn all_nodes_name_the_same_owner_while_all_live() {
        for key in ["a", "b", "c", "d"].map(digest) {
            let owner = |own| match tier(own, 3, 3).owner(&key) {
                Seat::Own => own,
                Seat::Peer(ordinal) => ordinal,
            };
            assert_eq!(owner(0), owner(1));
            assert_eq!(owner(1), owner(2));
        }
    }

    #[test]
    fn the_next_in_rank_owns_what_a_dead_node_owned() {
        let key = digest("x");
        let ranking = tier(0, 3, 3).ranking(&key);
        let tier = tier(ranking[2], 3, 3);
        assert_eq!(tier.owner(&key), Seat::Peer(ranking[0]));
        tier.mark_dead(ranking[0]);
        assert_eq!(tier.owner(&key), Seat::Peer(ranking[1]));
        tier.mark_dead(ranking[1]);
        assert_eq!(tier.owner(&key), Seat::Own);
        tier.mark_alive(ranking[0]);
        assert_eq!(tier.owner(&key), Seat::Peer(ranking[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_settles_when_all_have_answered_or_after_a_while() {
        let tier = Arc::new(tier(0, 3, 3));
        let begun = tokio::time::Instant::now();
        tier.mark_alive(1);
        tier.mark_alive(2);
        tier.settle().await;
        assert!(begun.elapsed() < SETTLE_POLL);
        tier.mark_dead(2);
        tier.settle().await;
        assert!(begun.elapsed() >= SETTLE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_has_come_back_for_a_while() {
        assert!(!tier(0, 3, 3).has_come_back_lately(), "it was never away");
        let tier = tier(0, 3, 3).after_absence();
        assert!(tier.has_come_back_lately());
        tokio::time::advance(TAKEN_OVER_MAX).await;
        assert!(!tier.has_come_back_lately());
    }

    #[test]
    fn copies_are_never_more_than_nodes() {
        assert_eq!(tier(0, 3, 1).copies(), 1);
        assert_eq!(tier(0, 3, 5).holders(&digest("x")).len(), 3);
        assert!(tier(0, 3, 3).is_holder(&digest("x")));
    }
}
