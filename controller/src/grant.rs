//! Grants: which namespace may use which repository through the cache, as far as this program has asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use oci::Repository;
use proto::v1::GrantInfo;

use crate::action::SecretName;

/// How long a namespace keeps its grant after its last pod with a secret.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// A grant that was found, and not verified for long, is kept this long at least: its source may have been away, and its
/// pods may be back in the morning.
const FOUND_KEPT_FOR: Duration = Duration::from_secs(12 * 60 * 60);

/// A namespace and a repository that its pods use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GrantKey {
    pub(crate) namespace: String,
    /// `host/name`.
    pub(crate) repository: String,
}

impl GrantKey {
    pub(crate) fn new(namespace: &str, repository: &Repository) -> Self {
        Self {
            namespace: namespace.to_owned(),
            repository: repository.to_string(),
        }
    }
}

/// What the tier answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrantResult {
    Granted,
    /// It was granted before, and the source refuses the secrets now or they are gone: what is cached is still served, for
    /// a day.
    Standing,
    /// Anyone may use it.
    Public,
    /// No secret that the pods name fits the repository.
    NoSecret,
    /// None that may be read fits, and some may not be read.
    Unread,
    /// None of the secrets works.
    Refused,
    /// The tier or the source did not answer.
    Unreachable,
}

/// What is remembered of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) result: GrantResult,
    /// When it was asked for.
    pub(crate) at: Timestamp,
    /// When a secret last worked, as far as is known.
    pub(crate) worked_at: Timestamp,
    /// When a pod was last seen that uses it.
    pub(crate) used_at: Timestamp,
    /// Secrets that were named when it was asked for; not known of one that an earlier leader asked for.
    pub(crate) tried: Option<BTreeSet<SecretName>>,
}

impl Grant {
    /// Whether the tier holds it.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.result, GrantResult::Granted | GrantResult::Standing)
    }
}

/// All that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    all: BTreeMap<GrantKey, Grant>,
    listing: Listing,
    /// How often the tier was doubted: what was asked before says nothing of what it holds now.
    doubts: u64,
}

/// Whether the tier has said which there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Listing {
    #[default]
    NotAsked,
    Told,
    /// Cache nodes of an earlier release cannot tell.
    CannotTell,
}

impl Grants {
    pub(crate) fn get(&self, key: &GrantKey) -> Option<&Grant> {
        self.all.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&GrantKey, &Grant)> {
        self.all.iter()
    }

    pub(crate) fn is_granted(&self, key: &GrantKey) -> bool {
        self.get(key).is_some_and(Grant::is_held)
    }

    /// Remembers an answer. A source that did not answer, or a secret that could not be read, takes nothing away; a secret
    /// that is gone does so after a while.
    pub(crate) fn heard(&mut self, key: GrantKey, result: GrantResult, tried: BTreeSet<SecretName>, now: Timestamp) {
        let before = self.all.get(&key);
        let stays = before.filter(|before| before.is_held());
        let worked_at = stays
            .filter(|_| result != GrantResult::Granted)
            .map_or(now, |before| before.worked_at);
        let result = match (stays, result) {
            (Some(before), GrantResult::Unreachable | GrantResult::Unread) => before.result,
            (Some(_), GrantResult::NoSecret) => GrantResult::Standing,
            (None, GrantResult::Unread) => GrantResult::NoSecret,
            (_, result) => result,
        };
        let heard = Grant {
            result,
            at: now,
            worked_at,
            used_at: now,
            tried: Some(tried),
        };
        self.all.insert(key, heard);
    }

    /// Whether it is known which grants the tier held before this program asked for any, as far as it can tell.
    pub(crate) fn is_listed(&self) -> bool {
        self.listing != Listing::NotAsked
    }

    /// Whether the tier has told. One that cannot knows nothing of places that are added, either.
    pub(crate) fn are_told(&self) -> bool {
        self.listing == Listing::Told
    }

    /// The tier may have lost what it held.
    pub(crate) fn doubt(&mut self) {
        self.listing = Listing::NotAsked;
        self.doubts += 1;
    }

    /// Goes with a question for the list, and comes back with the answer.
    pub(crate) fn doubts(&self) -> u64 {
        self.doubts
    }

    /// Takes in what the tier answered; nothing if it cannot tell. An answer from before a doubt is none.
    pub(crate) fn answered(&mut self, grants: Option<Vec<GrantInfo>>, asked_at: Timestamp, doubts: u64) {
        if doubts != self.doubts {
            return;
        }
        match grants {
            Some(grants) => self.listed(grants, asked_at),
            None => self.listing = Listing::CannotTell,
        }
    }

    /// Takes over what the tier holds, and forgets what it does not hold. What was heard since it was asked stays.
    fn listed(&mut self, grants: Vec<GrantInfo>, asked_at: Timestamp) {
        let held: BTreeMap<GrantKey, Grant> = grants.into_iter().map(|info| adopted(info, asked_at)).collect();
        // Grants are remembered by the second.
        let is_older = |grant: &Grant| grant.at.as_second() < asked_at.as_second();
        self.all
            .retain(|key, grant| !grant.is_held() || held.contains_key(key) || !is_older(grant));
        for (key, grant) in held {
            self.all.entry(key).or_insert(grant);
        }
        self.listing = Listing::Told;
    }

    pub(crate) fn forget(&mut self, key: &GrantKey) {
        self.all.remove(key);
    }

    /// Notes which of them pods use now, and forgets the others but for those that the tier holds.
    pub(crate) fn note_used(&mut self, used: &BTreeSet<GrantKey>, now: Timestamp) {
        self.all.retain(|key, grant| used.contains(key) || grant.is_held());
        for (key, grant) in &mut self.all {
            if used.contains(key) {
                grant.used_at = now;
            }
        }
    }
}

/// What a grant in the tier says to one who did not ask for it. Those that pods use are verified every hour, so that is
/// when it was last used, as far as can be told.
fn adopted(info: GrantInfo, now: Timestamp) -> (GrantKey, Grant) {
    let verified_at = time(info.verified_at_ms).min(now);
    let refused_since = Some(info.refused_since_ms).filter(|since| *since > 0).map(time);
    let kept_at_least = now - (KEPT_FOR - FOUND_KEPT_FOR);
    let used_at = verified_at.max(kept_at_least);
    let key = GrantKey {
        namespace: info.namespace,
        repository: info.repository,
    };
    let grant = Grant {
        result: if refused_since.is_some() {
            GrantResult::Standing
        } else {
            GrantResult::Granted
        },
        // One that the tier cannot open is asked for again at once.
        at: if info.sealed_with_lost_key {
            Timestamp::UNIX_EPOCH
        } else {
            verified_at
        },
        worked_at: refused_since.unwrap_or(used_at),
        used_at,
        tried: None,
    };
    (key, grant)
}

fn time(milliseconds: u64) -> Timestamp {
    let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn info(namespace: &str) -> GrantInfo {
        GrantInfo {
            namespace: namespace.to_owned(),
            repository: "quay.io/team/app".to_owned(),
            verified_at_ms: u64::try_from((now() - 10.minutes()).as_millisecond()).unwrap(),
            ..GrantInfo::default()
        }
    }

    fn key(namespace: &str) -> GrantKey {
        GrantKey {
            namespace: namespace.to_owned(),
            repository: "quay.io/team/app".to_owned(),
        }
    }

    #[test]
    fn a_list_takes_away_what_the_tier_lost_and_nothing_that_was_heard_since() {
        let mut grants = Grants::default();
        let (before, after) = (now() - 5.seconds(), now() + 1.second());
        grants.heard(key("lost"), GrantResult::Granted, BTreeSet::new(), before);
        grants.heard(key("refused"), GrantResult::Refused, BTreeSet::new(), before);
        grants.heard(key("new"), GrantResult::Granted, BTreeSet::new(), after);
        grants.listed(vec![info("held")], now());
        let known: Vec<&str> = grants.iter().map(|(key, _)| key.namespace.as_str()).collect();
        assert_eq!(known, ["held", "new", "refused"]);
        assert!(grants.is_granted(&key("held")));
    }

    #[test]
    fn what_a_grant_says_of_itself_is_taken_over() {
        let mut refused = info("refused");
        refused.refused_since_ms = u64::try_from((now() - 3.hours()).as_millisecond()).unwrap();
        let mut lost = info("lost-key");
        lost.sealed_with_lost_key = true;
        let (_, refused) = adopted(refused, now());
        assert_eq!(
            (refused.result, refused.worked_at),
            (GrantResult::Standing, now() - 3.hours())
        );
        assert_eq!(adopted(lost, now()).1.at, Timestamp::UNIX_EPOCH);
        assert_eq!(adopted(info("n"), now()).1.at, now() - 10.minutes());
        let never = GrantInfo {
            verified_at_ms: u64::MAX,
            ..info("n")
        };
        assert!(adopted(never, now()).1.at <= now());
    }
}
