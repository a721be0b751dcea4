//! Asks the cache nodes which images a namespace may pull through them.
//!
//! One node after the other until one answers, all within [`ANSWER_DEADLINE`]: a node that fails is passed over at once,
//! one that is slow is overtaken by the next. The same image goes to the same node first, so that many pods of one
//! rollout cost one question to its source.

mod connect;
mod probe;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use proto::v1::control_client::ControlClient;
use proto::v1::{Admission, AdmitReply, AdmitRequest};
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;

use crate::config::NodeAddress;
use crate::metrics::{Metrics, TierOutcome};
pub(crate) use connect::Identity;

/// Within this the tier has answered, or nothing is rewritten. Two thirds of what API servers give a webhook at least.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_millis(1200);
/// A node that has not answered after this is overtaken by the next; most answers take a few milliseconds.
const OVERTAKE_AFTER: Duration = Duration::from_millis(300);
/// A node has to answer this long before we stop listening.
const ANSWER_MARGIN: Duration = Duration::from_millis(50);
/// A node that failed is asked last for this long.
const PASSED_OVER: Duration = Duration::from_secs(5);
/// An answer is two bytes per image, and a sentence where one is not admitted.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The cache nodes.
pub(crate) struct Tier {
    nodes: Vec<Node>,
    metrics: Metrics,
}

struct Node {
    ordinal: u32,
    client: ControlClient<Channel>,
    failed_at: Mutex<Option<Instant>>,
}

/// What the tier says of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it may be pulled through the cache.
    pub admission: Admission,
    /// Why not, for people; empty where nothing is said.
    pub reason: String,
}

impl From<Admission> for Answer {
    fn from(admission: Admission) -> Self {
        let reason = String::new();
        Self { admission, reason }
    }
}

/// Admissions with their reasons, of which nodes of an earlier release send none.
fn answers(reply: &AdmitReply) -> Vec<Answer> {
    let reasons = reply.reasons.iter().cloned().chain(std::iter::repeat(String::new()));
    let both = reply.admissions().zip(reasons);
    both.map(|(admission, reason)| Answer { admission, reason }).collect()
}

/// No node answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no cache node answered in time")]
pub(crate) struct Silent;

enum Heard {
    Usable(Vec<Answer>),
    NotReady(Vec<Answer>),
    Failed,
}

impl Tier {
    /// Connects when it is first asked.
    pub(crate) fn new(nodes: &[NodeAddress], identity: &Identity, metrics: Metrics) -> Self {
        let node = |node: &NodeAddress| Node {
            ordinal: node.ordinal,
            client: ControlClient::new(connect::channel(&node.grpc, identity))
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            failed_at: Mutex::new(None),
        };
        Self {
            nodes: nodes.iter().map(node).collect(),
            metrics,
        }
    }

    /// May `namespace` pull these images through the cache? An answer for each.
    ///
    /// # Errors
    /// [`Silent`] after [`ANSWER_DEADLINE`], at `deadline` if that is earlier, or as soon as every node has failed.
    pub(crate) async fn admit(
        &self,
        namespace: &str,
        references: Vec<String>,
        deadline: Instant,
    ) -> Result<BTreeMap<String, Answer>, Silent> {
        let began = Instant::now();
        let deadline = deadline.min(began + ANSWER_DEADLINE);
        let request = AdmitRequest {
            namespace: namespace.to_owned(),
            references,
        };
        let (outcome, answers) = match self.ask_around(&request, deadline).await {
            Heard::Usable(answers) => (TierOutcome::Answered, Some(answers)),
            Heard::NotReady(answers) => (TierOutcome::NotReady, Some(answers)),
            Heard::Failed => (TierOutcome::Silent, None),
        };
        self.metrics.tier(outcome, began.elapsed());
        let answers = answers.ok_or(Silent)?;
        Ok(request.references.into_iter().zip(answers).collect())
    }

    async fn ask_around(&self, request: &AdmitRequest, deadline: Instant) -> Heard {
        let mut waiting = self.in_order(request).into_iter();
        let mut asked = FuturesUnordered::new();
        let mut best = Heard::Failed;
        loop {
            if let Some(node) = waiting.next() {
                asked.push(node.ask(request, deadline));
            }
            let overtake = sleep_until(deadline.min(Instant::now() + OVERTAKE_AFTER));
            tokio::select! {
                heard = asked.next() => match heard {
                    Some(Heard::Usable(answers)) => return Heard::Usable(answers),
                    Some(not_ready @ Heard::NotReady(_)) => best = not_ready,
                    Some(Heard::Failed) => {}
                    None => return best,
                },
                () = overtake => if Instant::now() >= deadline { return best },
            }
        }
    }

    /// The nodes by rendezvous hashing of what is asked, those that failed a moment ago last.
    fn in_order(&self, request: &AdmitRequest) -> Vec<&Node> {
        let now = Instant::now();
        let mut nodes: Vec<&Node> = self.nodes.iter().collect();
        nodes.sort_by_cached_key(|node| {
            let mut hasher = DefaultHasher::new();
            (request.references.first(), node.ordinal).hash(&mut hasher);
            (node.is_passed_over(now), hasher.finish())
        });
        nodes
    }
}

impl Node {
    async fn ask(&self, request: &AdmitRequest, deadline: Instant) -> Heard {
        let n_references = request.references.len();
        let left = deadline.saturating_duration_since(Instant::now());
        let mut request = tonic::Request::new(request.clone());
        request.set_timeout(left.saturating_sub(ANSWER_MARGIN));
        let silence = Silence { node: self };
        let mut client = self.client.clone();
        match client.admit(request).await {
            Ok(reply) if reply.get_ref().admissions.len() == n_references => {
                silence.broken();
                let answers = answers(reply.get_ref());
                match answers.iter().any(|answer| answer.admission == Admission::NotReady) {
                    true => Heard::NotReady(answers),
                    false => Heard::Usable(answers),
                }
            }
            Ok(_other_length) => {
                tracing::warn!(node = self.ordinal, "cache node answered for other images than asked");
                Heard::Failed
            }
            Err(status) => {
                tracing::debug!(node = self.ordinal, error = %status, "cache node did not admit");
                Heard::Failed
            }
        }
    }

    fn is_passed_over(&self, now: Instant) -> bool {
        let failed_at = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_some_and(|at| now.saturating_duration_since(at) < PASSED_OVER)
    }

    fn note_failed(&self, at: Option<Instant>) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

/// A question that has not been answered well. Dropped so, because the node failed or another was faster, it counts as
/// a failure.
struct Silence<'node> {
    node: &'node Node,
}

impl Silence<'_> {
    fn broken(self) {
        self.node.note_failed(None);
        std::mem::forget(self);
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.node.note_failed(Some(Instant::now()));
    }
}
