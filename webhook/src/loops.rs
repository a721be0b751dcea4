//! Finds owners that make the same pod again and again because its images are not those they wrote.
//!
//! A name can stand for one pod at a time, so each further creation of it proves that the one before was deleted. Pods
//! whose names the API server makes up prove nothing: there a steady trickle of creations counts, a burst counts once.
//! Memory is bounded; an owner that is forgotten is found again.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use crate::pod::Pod;

/// This many creations within [`WINDOW`] are a loop. Nobody deletes a pod by hand that often.
const CREATIONS: usize = 6;
/// Operators look at their pods a few times a minute.
const WINDOW: Duration = Duration::from_secs(180);
/// Creations of unnamed pods closer than this are one burst: an owner that grows.
const BURST: Duration = Duration::from_secs(5);
/// How long the pods of such an owner are left alone.
const HELD: Duration = Duration::from_secs(3600);
/// Owners remembered, at about 300 bytes each.
const OWNERS_MAX: usize = 1024;
/// Kubernetes' own controllers make pods from templates and never look at a living pod's images.
const TRUSTED_GROUPS: [&str; 2] = ["apps", "batch"];

/// What makes a pod, and which of its pods it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Maker {
    owner: String,
    pod: String,
    named: bool,
}

/// The owners that were seen.
#[derive(Debug)]
pub(crate) struct Loops {
    recent: LruCache<Maker, VecDeque<Instant>>,
    held: LruCache<String, Instant>,
}

impl Maker {
    /// Who makes this pod; nobody where that cannot loop.
    pub(crate) fn of(pod: &Pod, namespace: &str) -> Option<Self> {
        let owner = pod.controller()?;
        if TRUSTED_GROUPS.contains(&owner.group()) || owner.kind == "ReplicationController" {
            return None;
        }
        let name = pod.metadata.name.as_ref().filter(|name| !name.is_empty());
        let generated = pod.metadata.generate_name.as_ref();
        Some(Self {
            owner: format!("{} {namespace}/{}", owner.kind, owner.name),
            pod: name.or(generated)?.clone(),
            named: name.is_some(),
        })
    }

    /// The owner, for people.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }
}

impl Default for Loops {
    fn default() -> Self {
        let owners = NonZeroUsize::new(OWNERS_MAX).expect("not zero");
        Self {
            recent: LruCache::new(owners),
            held: LruCache::new(owners),
        }
    }
}

impl Loops {
    /// Whether this owner's pods are left alone now.
    pub(crate) fn is_held(&self, maker: &Maker, now: Instant) -> bool {
        let since = self.held.peek(&maker.owner);
        since.is_some_and(|since| now.saturating_duration_since(*since) < HELD)
    }

    /// Notes that a pod was created with rewritten images; true if its owner is left alone from now on.
    pub(crate) fn note(&mut self, maker: Maker, now: Instant) -> bool {
        let owner = maker.owner.clone();
        let named = maker.named;
        let creations = self.recent.get_or_insert_mut(maker, VecDeque::new);
        let is_burst = |last: &Instant| !named && now.saturating_duration_since(*last) < BURST;
        if creations.back().is_some_and(is_burst) {
            return false;
        }
        creations.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        creations.push_back(now);
        if creations.len() < CREATIONS {
            return false;
        }
        creations.clear();
        self.held.put(owner, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(group: &str, kind: &str, name: Option<&str>) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "generateName": "x-",
                "ownerReferences": [{
                    "apiVersion": format!("{group}/v1"), "kind": kind, "name": "db", "uid": "u", "controller": true,
                }],
            },
            "spec": {},
        }))
        .unwrap()
    }

    fn maker(name: Option<&str>) -> Maker {
        Maker::of(&pod("db.example", "Cluster", name), "default").unwrap()
    }

    fn created_every(loops: &mut Loops, maker: &Maker, seconds: u64, times: usize) -> bool {
        let mut now = Instant::now();
        let mut found = false;
        for _ in 0..times {
            now += Duration::from_secs(seconds);
            found |= loops.note(maker.clone(), now);
        }
        found
    }

    #[test]
    fn the_same_pod_again_and_again_is_a_loop() {
        let maker = maker(Some("db-1"));
        assert!(!created_every(&mut Loops::default(), &maker, 20, CREATIONS - 1));
        assert!(created_every(&mut Loops::default(), &maker, 20, CREATIONS));
        assert!(created_every(&mut Loops::default(), &maker, 1, CREATIONS));
        assert!(
            !created_every(&mut Loops::default(), &maker, 120, 50),
            "slow is not a loop"
        );
    }

    #[test]
    fn all_pods_of_the_owner_are_held_for_a_while() {
        let mut loops = Loops::default();
        let now = Instant::now();
        for _ in 0..CREATIONS {
            loops.note(maker(Some("db-1")), now);
        }
        assert!(loops.is_held(&maker(Some("db-2")), now + HELD / 2));
        assert!(!loops.is_held(&maker(Some("db-2")), now + HELD));
    }

    #[test]
    fn owner_that_grows_is_no_loop() {
        let mut loops = Loops::default();
        let now = Instant::now();
        assert!(!(0..500).any(|_| loops.note(maker(None), now)));
        assert!(!(0..500).any(|index| loops.note(maker(Some(&format!("db-{index}"))), now)));
        assert!(
            created_every(&mut loops, &maker(None), 10, CREATIONS),
            "a trickle is one"
        );
    }

    #[test]
    fn kubernetes_own_controllers_and_bare_pods_are_not_watched() {
        for (group, kind) in [("apps", "ReplicaSet"), ("apps", "DaemonSet"), ("batch", "Job")] {
            assert_eq!(Maker::of(&pod(group, kind, Some("a")), "default"), None, "{kind}");
        }
        let bare: Pod = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {}})).unwrap();
        assert_eq!(Maker::of(&bare, "default"), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut loops = Loops::default();
        let now = Instant::now();
        for index in 0..3 * OWNERS_MAX {
            loops.note(maker(Some(&format!("db-{index}"))), now);
        }
        assert_eq!(loops.recent.len(), OWNERS_MAX);
    }
}
