//! Whom a leader gives leadership to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::{Instant as _, RaftMetrics};
use tokio::time::Instant;

use crate::types::TypeConfig;

/// Entries that a successor may be behind the best of them: it has as long as an election takes to catch up.
const BEHIND_MAX: u64 = 100;

/// Who was given leadership when. Whoever gives it away goes through all others before it comes to one again.
#[derive(Debug, Default)]
pub(super) struct Tried(BTreeMap<u64, Instant>);

impl Tried {
    pub(super) fn note(&mut self, voter: u64) {
        self.0.insert(voter, Instant::now());
    }
}

/// A voter other than the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Voter {
    id: u64,
    matched: u64,
    /// How long ago it was tried.
    tried: Option<Duration>,
}

/// The other voters that answered the leader within `recent`. A leader that asks anyone else proposes nothing until
/// there is another leader, which may be never.
fn heard<RT: crate::runtime::Runtime>(
    metrics: &RaftMetrics<TypeConfig<RT>>,
    myself: u64,
    recent: Duration,
) -> BTreeSet<u64> {
    let answers = metrics.heartbeat.iter().flatten();
    answers
        .filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() <= recent))
        .map(|(id, _)| *id)
        .filter(|id| *id != myself)
        .collect()
}

/// Who is to lead instead of `myself`: nobody who was tried within `again_after`.
pub(super) fn successor<RT: crate::runtime::Runtime>(
    metrics: &RaftMetrics<TypeConfig<RT>>,
    myself: u64,
    recent: Duration,
    tried: &Tried,
    again_after: Duration,
) -> Option<u64> {
    let heard = heard(metrics, myself, recent);
    let replication = metrics.replication.as_ref()?;
    let voters = metrics.membership_config.voter_ids().filter(|id| heard.contains(id));
    let voters = voters.map(|id| Voter {
        id,
        matched: replication
            .get(&id)
            .and_then(Option::as_ref)
            .map_or(0, |log_id| log_id.index),
        tried: tried.0.get(&id).map(Instant::elapsed),
    });
    choose(&voters.collect::<Vec<_>>(), again_after)
}

/// Whether the voters that answer could elect one of them without `myself`.
pub(super) fn could_elect<RT: crate::runtime::Runtime>(
    metrics: &RaftMetrics<TypeConfig<RT>>,
    myself: u64,
    recent: Duration,
) -> bool {
    let heard = heard(metrics, myself, recent);
    is_quorum(&heard, metrics.membership_config.membership().get_joint_config())
}

/// Whether `present` is a majority of every set of voters.
fn is_quorum(present: &BTreeSet<u64>, configs: &[BTreeSet<u64>]) -> bool {
    configs
        .iter()
        .all(|voters| voters.intersection(present).count() * 2 > voters.len())
}

fn choose(voters: &[Voter], again_after: Duration) -> Option<u64> {
    let best = voters.iter().map(|voter| voter.matched).max()?;
    let near = |voter: &&Voter| voter.matched.saturating_add(BEHIND_MAX) >= best;
    let rested = |voter: &&Voter| voter.tried.is_none_or(|ago| ago >= again_after);
    let eligible = voters.iter().filter(near).filter(rested);
    // The longest ago first, never before all; of those the one that lacks least.
    let chosen = eligible.max_by_key(|voter| (voter.tried.unwrap_or(Duration::MAX), voter.matched));
    chosen.map(|voter| voter.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: Duration = Duration::from_secs(60);

    fn voter(id: u64, matched: u64, tried_secs: Option<u64>) -> Voter {
        Voter {
            id,
            matched,
            tried: tried_secs.map(Duration::from_secs),
        }
    }

    #[test]
    fn it_goes_round_all_that_are_near_before_it_comes_to_one_again() {
        for (voters, expected) in [
            (vec![], None),
            (vec![voter(1, 500, None), voter(2, 501, None)], Some(2)),
            (vec![voter(1, 500, None), voter(2, 501, Some(3))], Some(1)),
            (vec![voter(1, 500, Some(5)), voter(2, 501, Some(3))], None),
            (vec![voter(1, 500, Some(63)), voter(2, 501, Some(61))], Some(1)),
            (vec![voter(1, 400, None), voter(2, 501, Some(61))], Some(2)),
            (vec![voter(1, 0, None), voter(2, 501, Some(3))], None),
        ] {
            assert_eq!(choose(&voters, AGAIN), expected, "{voters:?}");
        }
    }

    #[test]
    fn the_others_elect_only_with_a_majority_of_all_voters() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        for (present, configs, expected) in [
            (set(&[]), vec![set(&[1])], false),
            (set(&[2]), vec![set(&[1, 2])], false),
            (set(&[2]), vec![set(&[1, 2, 3])], false),
            (set(&[2, 3]), vec![set(&[1, 2, 3])], true),
            (set(&[2, 9]), vec![set(&[1, 2, 3])], false),
            (set(&[2, 3]), vec![set(&[1, 2, 3]), set(&[1, 2, 3, 4, 5])], false),
        ] {
            assert_eq!(is_quorum(&present, &configs), expected, "{present:?} {configs:?}");
        }
    }
}
