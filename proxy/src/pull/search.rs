//! One request's walk over the suppliers: what was tried, in what order, since when.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::{self, Facts, Failure, Refusal, SourceFact, Step};
use crate::standing::Standing;
use crate::supply::Supplier;

/// Cache nodes asked per request. Any node can serve or relay anything, so more than the whole of a five-node tier
/// only adds time before the source registry is asked.
pub(crate) const NODES_ASKED_MAX: usize = 5;
/// How long the source registry is waited for after a node waited for it in vain: enough for one that works for us
/// and not for the node, little beside the 30 s that were spent. As long after the tier refused.
pub(crate) const AFTER_SILENCE: Duration = Duration::from_secs(5);

/// The state of one request's search.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    facts: Facts,
    /// The node that each position of the facts means.
    nodes: Vec<usize>,
    repository: oci::Repository,
    /// The tier was asked for a loan.
    borrowed: bool,
    started: Instant,
}

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask this supplier, and wait no longer than this for it.
    Ask(Supplier, Option<Duration>),
    /// Stop.
    Answer(Refusal),
}

impl Search {
    /// Starts a search over `order`, the nodes by preference. `limit` is that of a client with a next host.
    pub(crate) fn new(
        order: &[usize],
        repository: &oci::Repository,
        standing: &Standing,
        limit: Option<Duration>,
    ) -> Self {
        let (good, suspect): (Vec<usize>, Vec<usize>) = order.iter().partition(|node| !standing.suspects_node(**node));
        let nodes: Vec<usize> = good.into_iter().chain(suspect).take(NODES_ASKED_MAX).collect();
        let facts = Facts {
            nodes: Vec::new(),
            upstream: SourceFact::Untried { suspect: false },
            next_host: limit.is_some(),
            elapsed: Duration::ZERO,
            limit,
        };
        let mut search = Self {
            facts,
            nodes,
            repository: repository.clone(),
            borrowed: false,
            started: Instant::now(),
        };
        search.forgive(standing);
        search
    }

    /// Makes every supplier one that was not tried, as its breaker now has it.
    pub(crate) fn forgive(&mut self, standing: &Standing) {
        let fact = |node: &usize| SourceFact::Untried {
            suspect: standing.suspects_node(*node),
        };
        self.facts.nodes = self.nodes.iter().map(fact).collect();
        let suspect = standing.suspects_upstream(&self.repository.host, self.started + self.elapsed());
        self.facts.upstream = SourceFact::Untried { suspect };
    }

    /// What to do next.
    pub(crate) fn next(&mut self) -> Next {
        self.facts.elapsed = self.elapsed();
        let supplier = match policy::next(&self.facts) {
            Step::Node(position) => Supplier::Node(self.nodes[position]),
            Step::Upstream => Supplier::Upstream,
            Step::Answer(refusal) => return Next::Answer(refusal),
        };
        let left = self.facts.limit.map(|limit| limit.saturating_sub(self.facts.elapsed));
        let in_short = supplier == Supplier::Upstream && (self.waited_in_vain() || self.is_refused());
        let in_short = in_short.then_some(AFTER_SILENCE);
        Next::Ask(supplier, left.into_iter().chain(in_short).min())
    }

    /// Records a failure.
    pub(crate) fn failed(&mut self, supplier: Supplier, failure: Failure) {
        self.set(supplier, SourceFact::Failed(failure));
    }

    /// Makes a supplier the last resort: it broke off, but only after it had moved something.
    pub(crate) fn suspect(&mut self, supplier: Supplier) {
        self.set(supplier, SourceFact::Untried { suspect: true });
    }

    fn set(&mut self, supplier: Supplier, fact: SourceFact) {
        match supplier {
            Supplier::Upstream => self.facts.upstream = fact,
            Supplier::Node(node) => {
                for (position, _) in self
                    .nodes
                    .iter()
                    .enumerate()
                    .filter(|(_, candidate)| **candidate == node)
                {
                    self.facts.nodes[position] = fact;
                }
            }
        }
    }

    /// What is searched.
    pub(crate) fn repository(&self) -> &oci::Repository {
        &self.repository
    }

    /// Whether the tier may be asked for an authorization towards the source: once, and not if it refused already.
    pub(crate) fn may_borrow(&mut self) -> bool {
        !self.is_refused() && !std::mem::replace(&mut self.borrowed, true)
    }

    /// The source registry of what is searched.
    pub(crate) fn host(&self) -> &oci::SourceHost {
        &self.repository.host
    }

    /// Time since the request arrived.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// When a client with a next host is to be sent there.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.facts.limit.map(|limit| self.started + limit)
    }

    /// When the first bytes of `supplier` must be there although its headers were, if that is limited: a source
    /// registry may say "here it comes" and then be as silent as it was to the node.
    pub(crate) fn first_bytes_deadline(&self, supplier: Supplier) -> Option<Instant> {
        (supplier == Supplier::Upstream && self.waited_in_vain()).then(|| Instant::now() + AFTER_SILENCE)
    }

    /// Stops minding the clock: the client has bytes, and nowhere else to go with them.
    pub(crate) fn drop_limit(&mut self) {
        self.facts.limit = None;
        self.facts.next_host = false;
    }

    fn is_refused(&self) -> bool {
        self.facts.nodes.contains(&SourceFact::Failed(Failure::Denied))
    }

    fn waited_in_vain(&self) -> bool {
        self.facts.nodes.contains(&SourceFact::Failed(Failure::SourceSilent))
    }
}
