//! What the proxy asks the tier beside content: facts, and authorizations towards sources.
//!
//! Only nodes in good standing are asked, a few of them, and nothing they do here counts for or against them: a node
//! that answers this with nonsense may serve images well.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use oci::Repository;
use proto::access::TierFacts;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Failure, Pull};
use crate::supply::Supply;

/// Nodes asked; what one does not know the others do not either.
const ASKED_MAX: usize = 2;
/// How long a node may take while a pull waits for it, which would else fail.
pub(super) const BORROW_AT_ONCE: Duration = Duration::from_secs(1);
/// How long a node may take while nobody waits: it waits 3 s itself for news of a pod that was just placed here.
const BORROW_IN_BACKGROUND: Duration = Duration::from_secs(5);

impl<S: Supply> Pull<S> {
    /// Asks the tier what it knows.
    pub(crate) async fn facts(&self) -> Option<TierFacts> {
        for node in self.nodes_in_good_standing(b"facts") {
            match self.supply.facts(node).await {
                Ok(facts) => return Some(facts),
                Err(failure) => tracing::debug!(node, ?failure, "no facts"),
            }
        }
        None
    }

    /// Asks for the loans that are wanted, one after the other, until dropped.
    pub(crate) async fn run_loans(&self, mut wanted: mpsc::Receiver<Repository>) -> Infallible {
        while let Some(repository) = wanted.recv().await {
            self.borrow(&repository, BORROW_IN_BACKGROUND).await;
        }
        pending().await
    }

    /// Asks the tier for an authorization towards the source of a repository. Answers whether there is one now.
    pub(super) async fn borrow(&self, repository: &Repository, deadline: Duration) -> bool {
        let give_up = Instant::now() + deadline;
        for node in self.nodes_in_good_standing(repository.to_string().as_bytes()) {
            let left = give_up.saturating_duration_since(Instant::now());
            let answer = self.supply.authorization(node, repository, left).await;
            self.loans
                .take(repository, answer.as_ref().map_err(|failure| *failure), Instant::now());
            match answer {
                Ok(answer) => return answer.authorization.is_some(),
                Err(Failure::Denied) => return false,
                Err(failure) => tracing::debug!(node, ?failure, "nothing lent"),
            }
        }
        false
    }

    fn nodes_in_good_standing(&self, key: &[u8]) -> Vec<usize> {
        let nodes = self.ring.order(key).into_iter();
        nodes
            .filter(|node| !self.standing.suspects_node(*node))
            .take(ASKED_MAX)
            .collect()
    }
}
