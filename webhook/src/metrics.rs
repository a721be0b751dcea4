//! What the webhook counts. Every name here starts with `kube_image_keeper_webhook_`.
//!
//! Handles are made once; labels come from enums, never from images, pods or namespaces.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::kept::Kept;
use crate::proxies::Proxies;
use crate::rewrite::Decision;

/// How a review ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The pod was changed.
    Patched,
    /// The pod needed no change.
    Unchanged,
    /// The pod, or whatever it was, is not looked at.
    Untouched,
    /// Let through because there was no time or no policy.
    LetThrough,
    /// Its body was too large, incomplete, or did not find room in time.
    Unread,
    /// It was no review.
    Malformed,
}

/// How a question to the tier ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TierOutcome {
    /// Every image has its answer.
    Answered,
    /// Nodes answered, and none can serve.
    NotReady,
    /// No node answered in time.
    Silent,
}

/// The handles; cloning shares them.
#[derive(Clone)]
pub struct Metrics(Arc<Handles>);

struct Handles {
    reviews: [Counter; 6],
    review_seconds: Histogram,
    rewritten: Counter,
    already: Counter,
    left: Counter,
    kept: Vec<Counter>,
    given_back: Vec<Counter>,
    tier: [Counter; 3],
    tier_seconds: Histogram,
    proxies_ready: Gauge,
    policy_loaded: Counter,
    policy_refused: Counter,
    loops: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything with the recorder that is installed now.
    pub fn new() -> Self {
        let review = |outcome| counter!("kube_image_keeper_webhook_reviews_total", "outcome" => outcome);
        let image = |decision, reason| counter!("kube_image_keeper_webhook_images_total", "decision" => decision, "reason" => reason);
        let by_reason = |decision| Kept::LABELS.map(|reason| image(decision, reason)).to_vec();
        let tier = |outcome| counter!("kube_image_keeper_webhook_tier_requests_total", "outcome" => outcome);
        let policy = |outcome| counter!("kube_image_keeper_webhook_policy_loads_total", "outcome" => outcome);
        Self(Arc::new(Handles {
            reviews: [
                "patched",
                "unchanged",
                "untouched",
                "let_through",
                "unread",
                "malformed",
            ]
            .map(review),
            review_seconds: histogram!("kube_image_keeper_webhook_review_seconds"),
            rewritten: image("rewritten", ""),
            already: image("already", ""),
            left: image("left", ""),
            kept: by_reason("kept"),
            given_back: by_reason("given_back"),
            tier: ["answered", "not_ready", "silent"].map(tier),
            tier_seconds: histogram!("kube_image_keeper_webhook_tier_seconds"),
            proxies_ready: gauge!("kube_image_keeper_webhook_proxies_ready"),
            policy_loaded: policy("loaded"),
            policy_refused: policy("refused"),
            loops: counter!("kube_image_keeper_webhook_loops_total"),
        }))
    }

    /// Counts a review.
    pub(crate) fn reviewed(&self, outcome: Outcome, took: Duration) {
        self.0.reviews[outcome as usize].increment(1);
        self.0.review_seconds.record(took.as_secs_f64());
    }

    /// Counts what became of an image.
    pub(crate) fn decided(&self, decision: &Decision) {
        let handles = &self.0;
        let counter = match decision {
            Decision::Rewritten => &handles.rewritten,
            Decision::Already => &handles.already,
            Decision::Left => &handles.left,
            Decision::Kept(why) => &handles.kept[why.position()],
            Decision::GivenBack(why) => &handles.given_back[why.position()],
        };
        counter.increment(1);
    }

    /// Counts a question to the tier.
    pub(crate) fn tier(&self, outcome: TierOutcome, took: Duration) {
        self.0.tier[outcome as usize].increment(1);
        self.0.tier_seconds.record(took.as_secs_f64());
    }

    /// Shows whether there are proxies to pull through.
    pub(crate) fn proxies(&self, state: Proxies) {
        self.0.proxies_ready.set(if state.are_there() { 1.0 } else { 0.0 });
    }

    /// Counts a policy that is in use from now on.
    pub(crate) fn policy_loaded(&self) {
        self.0.policy_loaded.increment(1);
    }

    /// Counts a policy that cannot be used.
    pub(crate) fn policy_refused(&self) {
        self.0.policy_refused.increment(1);
    }

    /// Counts an owner that makes a pod again and again.
    pub(crate) fn loop_found(&self) {
        self.0.loops.increment(1);
    }
}
