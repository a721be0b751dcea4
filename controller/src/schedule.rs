//! Which of the planned actions begins next. Pure.
//!
//! A plan replaces the one before. Two actions of one key are never under way at once; what failed waits longer each time,
//! and is only done again if a later plan still wants it. Slow kinds of actions have places of their own, so that a source
//! which hangs holds up no kubelet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::action::{Action, ActionKey};
use crate::metrics;
use crate::news::NEWS_MAX;

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// What kubelets wait for is tried again soon: the tier may have room again at any moment.
const URGENT_BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A grant waits for a source that may be slow; the cache nodes bound what they try themselves.
const GRANTS_MAX: usize = 4;
/// Pods changed at once.
const PODS_MAX: usize = 4;
/// People told of at once.
const TOLD_MAX: usize = 2;

/// What is to be done, and what is being done.
pub(crate) struct Schedule {
    objects_max: usize,
    queue: VecDeque<Action>,
    /// Part of no plan: told once, and the oldest of too many not at all.
    news: VecDeque<Action>,
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
    News,
}

impl Schedule {
    /// An empty one, for `objects_max` changes to objects at once.
    pub(crate) fn new(objects_max: usize) -> Self {
        Self {
            objects_max,
            queue: VecDeque::new(),
            news: VecDeque::new(),
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

    /// Has people told of something that no plan knows of. Work is never queued here.
    pub(crate) fn tell(&mut self, news: Action) {
        debug_assert!(lane(&news.key()) == Lane::News);
        if self.news.len() == NEWS_MAX {
            self.news.pop_front();
            metrics::untold();
        }
        self.news.push_back(news);
    }

    /// The next action that may begin; from now on it is under way.
    pub(crate) fn next(&mut self) -> Option<Action> {
        let action = match self.queue.iter().position(|action| self.has_place(&action.key())) {
            Some(at) => self.queue.remove(at)?,
            None => {
                let at = self.news.iter().position(|news| self.has_place(&news.key()))?;
                self.news.remove(at)?
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
        let max = match lane(&key) {
            Lane::Urgent => URGENT_BACKOFF_MAX,
            _ => BACKOFF_MAX,
        };
        let wait = BACKOFF_FIRST.saturating_mul(1 << tries.min(10)).min(max);
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
        if self.under_way.contains(key) {
            return false;
        }
        let lane = lane(key);
        let taken = self.under_way.iter().filter(|key| self::lane(key) == lane).count();
        match lane {
            Lane::Urgent => true,
            Lane::Objects => taken < self.objects_max,
            Lane::Grants => taken < GRANTS_MAX,
            Lane::Pods => taken < PODS_MAX,
            Lane::News => taken < TOLD_MAX,
        }
    }
}

fn lane(key: &ActionKey) -> Lane {
    match key {
        ActionKey::Desired | ActionKey::Places | ActionKey::GrantList => Lane::Urgent,
        ActionKey::Grant(_) => Lane::Grants,
        ActionKey::Pod(_) => Lane::Pods,
        ActionKey::Image(_)
        | ActionKey::ImageStatus(_)
        | ActionKey::Repository(_)
        | ActionKey::RepositoryStatus(_)
        | ActionKey::Update(_) => Lane::Objects,
        ActionKey::Told(_) => Lane::News,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;
    use proto::v1::PlaceRequest;

    use super::*;
    use crate::action::Notice;
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

    fn news(repository: &str, n: usize) -> Action {
        let name = Some(repository.to_owned());
        Action::TellRepository {
            about: Box::new(ObjectReference {
                name,
                ..ObjectReference::default()
            }),
            notice: Notice::warning("CredentialsRefused", n.to_string()),
        }
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
    async fn a_flood_of_news_is_bounded_and_holds_up_no_work() {
        let mut schedule = Schedule::new(3);
        for n in 0..NEWS_MAX + 7 {
            schedule.tell(news(&format!("r{n}"), n));
        }
        schedule.replace(vec![repository("a"), place()], Instant::now());
        let begun: Vec<Action> = std::iter::from_fn(|| schedule.next()).collect();
        assert_eq!(begun[..2], [repository("a"), place()]);
        assert_eq!(begun[2..], [news("r7", 7), news("r8", 8)], "the oldest are left out");
        let mut told = begun.len() - 2;
        schedule.settle(news("r7", 7).key(), true, Instant::now());
        while let Some(action) = schedule.next() {
            told += 1;
            schedule.settle(action.key(), true, Instant::now());
        }
        assert_eq!(told, NEWS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn news_of_one_repository_are_told_in_their_order() {
        let mut schedule = Schedule::new(3);
        schedule.tell(news("a", 1));
        schedule.tell(news("a", 2));
        assert_eq!(schedule.next(), Some(news("a", 1)));
        assert_eq!(schedule.next(), None);
        schedule.settle(news("a", 1).key(), true, Instant::now());
        assert_eq!(schedule.next(), Some(news("a", 2)));
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
