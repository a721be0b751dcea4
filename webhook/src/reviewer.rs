//! Gathers what the decision needs, and carries the decision out: the shell around [`rewrite`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use json_patch::Patch;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::kept::Kept;
use crate::loops::{Loops, Maker};
use crate::metrics::{Metrics, Outcome};
use crate::policy::file::CurrentPolicy;
use crate::proxies::Proxies;
use crate::review::Incoming;
use crate::rewrite::{self, Admissions, Decision, Occasion, Rewriting, Rules, Subject};
use crate::tier::Tier;

/// Longest time for one pod. API servers wait for a webhook two seconds at least.
pub(crate) const REVIEW_DEADLINE: Duration = Duration::from_millis(1700);

/// What is left of that after the tier was asked: for saying that it did not answer.
const DECISION_TIME: Duration = Duration::from_millis(100);

/// Answers for pods.
pub(crate) struct Reviewer {
    /// What is left alone.
    pub policy: CurrentPolicy,
    /// The proxies' port.
    pub proxy_port: u16,
    /// Namespaces of kuik itself.
    pub own_namespaces: Vec<String>,
    /// Whether there are proxies.
    pub proxies: watch::Receiver<Proxies>,
    /// The cache nodes.
    pub tier: Arc<Tier>,
    /// Owners that make pods again and again.
    pub loops: Mutex<Loops>,
    /// Counters.
    pub metrics: Metrics,
}

impl Reviewer {
    /// The patch for a pod, by `deadline`. Whatever goes wrong, the patch is empty.
    pub(crate) async fn review(&self, incoming: Option<Incoming>, deadline: Instant) -> Patch {
        let began = Instant::now();
        let (outcome, patch) = match incoming {
            None => (Outcome::Untouched, Patch::default()),
            Some(incoming) => {
                let reviewed = timeout_at(deadline, self.review_pod(incoming, deadline)).await;
                reviewed.unwrap_or((Outcome::LetThrough, Patch::default()))
            }
        };
        self.metrics.reviewed(outcome, began.elapsed());
        patch
    }

    async fn review_pod(&self, incoming: Incoming, deadline: Instant) -> (Outcome, Patch) {
        let Some(policy) = self.policy.borrow().clone() else {
            return (Outcome::LetThrough, Patch::default());
        };
        let Incoming {
            namespace,
            pod,
            occasion,
            dry_run,
        } = incoming;
        if let Some(why) = policy.untouched(&pod, &namespace, &self.own_namespaces) {
            tracing::debug!(namespace, pod = pod.metadata.name, ?why, "pod not looked at");
            return (Outcome::Untouched, Patch::default());
        }
        let maker = Maker::of(&pod, &namespace);
        let held = policy.holds(&pod).or_else(|| self.held_for_loop(maker.as_ref()));
        let subject = Subject { pod, occasion, held };
        let rules = Rules {
            policy,
            proxy_port: self.proxy_port,
            proxies: *self.proxies.borrow(),
        };
        let admissions = self.admissions(&namespace, &subject, &rules, deadline).await;
        let rewriting = rewrite::rewrite(&subject, &rules, &admissions);
        if !dry_run {
            self.note(&subject, &rewriting, maker);
        }
        tracing::debug!(namespace, pod = subject.pod.metadata.name, decisions = ?rewriting.decisions, "pod reviewed");
        let outcome = if rewriting.patch.0.is_empty() {
            Outcome::Unchanged
        } else {
            Outcome::Patched
        };
        (outcome, rewriting.patch)
    }

    async fn admissions(&self, namespace: &str, subject: &Subject, rules: &Rules, deadline: Instant) -> Admissions {
        let references = rewrite::references(subject, rules);
        if references.is_empty() {
            return Admissions::Answered(BTreeMap::new());
        }
        if !rules.proxies.are_there() {
            return Admissions::Withheld(Kept::NoProxy);
        }
        match self.tier.admit(namespace, references, deadline - DECISION_TIME).await {
            Ok(answers) => Admissions::Answered(answers),
            Err(_silent) => Admissions::Withheld(Kept::TierSilent),
        }
    }

    fn held_for_loop(&self, maker: Option<&Maker>) -> Option<Kept> {
        let maker = maker?;
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let held = loops.is_held(maker, Instant::now());
        held.then(|| Kept::Loop(maker.owner().to_owned()))
    }

    fn note(&self, subject: &Subject, rewriting: &Rewriting, maker: Option<Maker>) {
        for decision in &rewriting.decisions {
            self.metrics.decided(decision);
        }
        let created = matches!(subject.occasion, Occasion::Create);
        let rewritten = rewriting.decisions.contains(&Decision::Rewritten);
        let Some(maker) = maker.filter(|_maker| created && rewritten) else {
            return;
        };
        let owner = maker.owner().to_owned();
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        if loops.note(maker, Instant::now()) {
            drop(loops);
            self.metrics.loop_found();
            tracing::warn!(
                owner,
                "makes the same pod again and again, its pods are left alone for an hour"
            );
        }
    }
}

/// Shared by all connections.
pub(crate) type SharedReviewer = Arc<Reviewer>;
