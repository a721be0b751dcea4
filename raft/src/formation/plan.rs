//! What an empty node does, given what its peers say. No IO.

use std::collections::BTreeMap;

use meta::ClusterId;

use crate::config::Config;
use crate::error::FormationError;

/// Only this node founds a cluster, so that there is one genesis.
const FOUNDER_ORDINAL: u32 = 0;

/// What a peer says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Empty { ordinal: u32 },
    Member { cluster: ClusterId },
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Found,
    /// Ask these members, in turn, for an id.
    Join {
        cluster: ClusterId,
        through: Vec<String>,
    },
    Wait {
        reason: String,
    },
}

/// `answers` by address; `None` from who did not answer.
pub(super) fn plan(config: &Config, answers: &BTreeMap<String, Option<Answer>>) -> Result<Plan, FormationError> {
    if let Some(join) = join(answers)? {
        return Ok(join);
    }
    let wait = |reason: String| Ok(Plan::Wait { reason });
    if config.ordinal != FOUNDER_ORDINAL {
        return wait(format!("no member answers; node {FOUNDER_ORDINAL} founds the cluster"));
    }
    if !config.allow_genesis {
        return wait("no member answers, and founding a cluster is not allowed".to_owned());
    }
    for peer in config.other_peers() {
        match answers.get(&peer.address).copied().flatten() {
            Some(Answer::Empty { ordinal }) if ordinal == peer.ordinal => {}
            Some(Answer::Empty { ordinal }) => {
                return wait(format!(
                    "{} says it is node {ordinal}, not {}",
                    peer.address, peer.ordinal
                ));
            }
            // A silent peer may be a member of a cluster that lives.
            _ => return wait(format!("{} does not answer", peer.address)),
        }
    }
    Ok(Plan::Found)
}

fn join(answers: &BTreeMap<String, Option<Answer>>) -> Result<Option<Plan>, FormationError> {
    let mut found: Option<(ClusterId, Vec<String>)> = None;
    for (address, answer) in answers {
        let Some(Answer::Member { cluster }) = *answer else {
            continue;
        };
        match &mut found {
            None => found = Some((cluster, vec![address.clone()])),
            Some((one, through)) if *one == cluster => through.push(address.clone()),
            Some((one, _)) => {
                return Err(FormationError::SplitPeers {
                    one: *one,
                    other: cluster,
                });
            }
        }
    }
    Ok(found.map(|(cluster, through)| Plan::Join { cluster, through }))
}

#[cfg(test)]
mod tests {
    use meta::Addresses;

    use super::*;
    use crate::config::Peer;

    fn config(ordinal: u32) -> Config {
        let peer = |ordinal| Peer {
            ordinal,
            address: format!("node-{ordinal}"),
        };
        let mut config = Config::new(ordinal, (0..3).map(peer).collect(), Addresses::default());
        config.allow_genesis = true;
        config
    }

    fn answers(of: [Option<Answer>; 2]) -> BTreeMap<String, Option<Answer>> {
        (1..).map(|n| format!("node-{n}")).zip(of).collect()
    }

    const EMPTY_1: Option<Answer> = Some(Answer::Empty { ordinal: 1 });
    const EMPTY_2: Option<Answer> = Some(Answer::Empty { ordinal: 2 });

    fn member(cluster: u128) -> Option<Answer> {
        Some(Answer::Member {
            cluster: ClusterId::new(cluster),
        })
    }

    #[test]
    fn node_0_founds_when_everyone_is_there_and_empty() {
        assert_eq!(plan(&config(0), &answers([EMPTY_1, EMPTY_2])).unwrap(), Plan::Found);
    }

    #[test]
    fn a_silent_or_misplaced_peer_prevents_genesis() {
        for of in [[EMPTY_1, None], [EMPTY_1, EMPTY_1]] {
            assert!(matches!(plan(&config(0), &answers(of)).unwrap(), Plan::Wait { .. }));
        }
    }

    #[test]
    fn nobody_else_founds_and_nobody_without_permission() {
        assert!(matches!(
            plan(&config(1), &answers([EMPTY_1, EMPTY_2])).unwrap(),
            Plan::Wait { .. }
        ));
        let forbidden = Config {
            allow_genesis: false,
            ..config(0)
        };
        assert!(matches!(
            plan(&forbidden, &answers([EMPTY_1, EMPTY_2])).unwrap(),
            Plan::Wait { .. }
        ));
    }

    #[test]
    fn a_cluster_that_exists_is_joined_even_if_others_are_silent() {
        let join = Plan::Join {
            cluster: ClusterId::new(7),
            through: vec!["node-2".to_owned()],
        };
        assert_eq!(plan(&config(0), &answers([None, member(7)])).unwrap(), join);
    }

    #[test]
    fn two_clusters_among_the_peers_are_an_error() {
        let result = plan(&config(0), &answers([member(7), member(8)]));
        assert!(matches!(result, Err(FormationError::SplitPeers { .. })));
    }
}
