//! Which of the planned actions begins next. Pure.
//!
//! A plan replaces the one before. Two actions of one key are never under way at once; what failed waits longer each time,
//! and is only done again if a later plan still wants it. Slow kinds of actions have places of their own, so that a source
//! which hangs holds up no kubelet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::action::{Action, ActionKey};

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A grant waits for a source that may be slow; the cache nodes bound what they try themselves.
const GRANTS_MAX: usize = 4;
/// Pods changed at once.
const PODS_MAX: usize = 4;

/// What is to be done, and what is being done.
pub(crate) struct Schedule {
    objects_max: usize,
    queue: VecDeque<Action>,
    /// Not part of any plan: done once.
    extra: VecDeque<Action>,
    under_way: BTreeSet<ActionKey>,
    failing: BTreeMap<ActionKey, Failing>,
}

struct Failing {
    tries: u32,
    until: Instant,
}

/// Kinds of actions that share places.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// One message at a time to the tier, for which kubelets wait.
    Urgent,
    Objects,
    Grants,
    Pods,
}

impl Schedule {
    /// An empty one, for `objects_max` changes to objects at once.
    pub(crate) fn new(objects_max: usize) -> Self {
        Self {
            objects_max,
            queue: VecDeque::new(),
            extra: VecDeque::new(),
            under_way: BTreeSet::new(),
            failing: BTreeMap::new(),
        }
    }

    /// Takes a new plan in place of the old one.
    pub(crate) fn replace(&mut self, actions: Vec<Action>, now: Instant) {
        self.failing.retain(|_, failing| failing.until + BACKOFF_MAX > now);
        let mut planned = self.under_way.clone();
        let waits = |key: &ActionKey| self.failing.get(key).is_some_and(|failing| failing.until > now);
        let due = actions.into_iter().filter(|action| {
            let key = action.key();
            !waits(&key) && planned.insert(key)
        });
        self.queue = due.collect();
    }

    /// Adds something that no plan knows of.
    pub(crate) fn add(&mut self, action: Action) {
        self.extra.push_back(action);
    }

    /// The next action that may begin; from now on it is under way.
    pub(crate) fn next(&mut self) -> Option<Action> {
        let action = match self.extra.pop_front() {
            Some(action) => action,
            None => {
                let at = self.queue.iter().position(|action| self.has_place(&action.key()))?;
                self.queue.remove(at)?
            }
        };
        self.under_way.insert(action.key());
        Some(action)
    }

    /// An action has come to its end.
    pub(crate) fn settle(&mut self, key: ActionKey, succeeded: bool, now: Instant) {
        self.under_way.remove(&key);
        if succeeded {
            self.failing.remove(&key);
            return;
        }
        let tries = self.failing.get(&key).map_or(0, |failing| failing.tries);
        let wait = BACKOFF_FIRST.saturating_mul(1 << tries.min(10)).min(BACKOFF_MAX);
        let tries = tries.saturating_add(1);
        self.failing.insert(
            key,
            Failing {
                tries,
                until: now + wait,
            },
        );
    }

    fn has_place(&self, key: &ActionKey) -> bool {
        let lane = lane(key);
        let taken = self.under_way.iter().filter(|key| self::lane(key) == lane).count();
        match lane {
            Lane::Urgent => true,
            Lane::Objects => taken < self.objects_max,
            Lane::Grants => taken < GRANTS_MAX,
            Lane::Pods => taken < PODS_MAX,
        }
    }
}

fn lane(key: &ActionKey) -> Lane {
    match key {
        ActionKey::Desired | ActionKey::Places => Lane::Urgent,
        ActionKey::Grant(_) => Lane::Grants,
        ActionKey::Pod(_) => Lane::Pods,
        ActionKey::Image(_)
        | ActionKey::ImageStatus(_)
        | ActionKey::Repository(_)
        | ActionKey::RepositoryStatus(_)
        | ActionKey::Update(_)
        | ActionKey::Told(_) => Lane::Objects,
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::PlaceRequest;

    use super::*;
    use crate::grant::GrantKey;

    fn repository(name: &str) -> Action {
        Action::CreateRepository {
            name: name.to_owned(),
            repository: format!("h.io/{name}"),
        }
    }

    fn grant(n: usize) -> Action {
        let key = GrantKey {
            namespace: "n".to_owned(),
            repository: format!("h.io/{n}"),
        };
        Action::Revoke { key }
    }

    fn place() -> Action {
        Action::Place(PlaceRequest::default())
    }

    fn begun(schedule: &mut Schedule) -> usize {
        std::iter::from_fn(|| schedule.next()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn actions_about_one_thing_follow_each_other() {
        let mut schedule = Schedule::new(3);
        schedule.replace(vec![repository("a"), repository("a"), repository("b")], Instant::now());
        assert_eq!(begun(&mut schedule), 2);
        schedule.replace(vec![repository("a")], Instant::now());
        assert_eq!(begun(&mut schedule), 0, "under way");
        schedule.settle(repository("a").key(), true, Instant::now());
        schedule.replace(vec![repository("a")], Instant::now());
        assert_eq!(begun(&mut schedule), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_sources_hold_up_no_kubelet() {
        let mut schedule = Schedule::new(1);
        let mut actions: Vec<Action> = (0..9).map(grant).collect();
        actions.extend([repository("a"), repository("b"), place()]);
        schedule.replace(actions, Instant::now());
        let begun: Vec<ActionKey> = std::iter::from_fn(|| schedule.next())
            .map(|action| action.key())
            .collect();
        assert_eq!(begun.len(), GRANTS_MAX + 2);
        assert!(begun.contains(&ActionKey::Places));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_waits_longer_each_time_and_holds_up_nothing_else() {
        let mut schedule = Schedule::new(3);
        let mut waited = Vec::new();
        for _ in 0..9 {
            schedule.settle(repository("a").key(), false, Instant::now());
            let since = Instant::now();
            loop {
                schedule.replace(vec![repository("a")], Instant::now());
                if schedule.next().is_some() {
                    break;
                }
                tokio::time::advance(Duration::from_millis(250)).await;
            }
            waited.push(since.elapsed().as_millis());
        }
        assert_eq!(waited, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        schedule.replace(vec![repository("b")], Instant::now());
        assert_eq!(begun(&mut schedule), 1);
    }
}
