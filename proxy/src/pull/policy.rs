//! Which source to ask next, as a pure function of what was tried, how it failed and how long it took.
//!
//! Guarantees: it ends (each call names a source not yet tried, or the answer), a cache node whose breaker is open is
//! never asked before every one whose breaker is closed, a refusal of the tier is asked about once, the source registry is asked before any answer that says
//! "unavailable", and no answer is "too many requests". Breakers, clocks and connections belong to the caller.

use std::time::Duration;

/// What is known of one source, for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceFact {
    /// Not asked yet. `suspect` while its breaker is not closed.
    Untried { suspect: bool },
    /// Asked, without an answer to give out.
    Failed(Failure),
}

/// How a source failed a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection, silence, or a connection that broke: it may be gone.
    Unreachable,
    /// It lives and said that it cannot answer this now: starting, overloaded, rate limiting, its own source failed.
    Unable,
    /// Its source made no progress for as long as anybody would wait; another node would only wait as long again.
    SourceSilent,
    /// It has seen less of this tag's history than this proxy has.
    Behind,
    /// It has no such content, and may not have heard that from the source registry: ask that next.
    Missing,
    /// The source registry says that there is no such content.
    Absent,
    /// The source registry refused the credentials that the asked one has, or the tier refuses this machine a private
    /// repository.
    Denied,
    /// The rules forbid asking it at all.
    Forbidden,
    /// What it sent was not what was asked for.
    Wrong,
}

/// Everything that decides the next step of one request.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Cache nodes in the order of preference for what is asked for.
    pub(crate) nodes: Vec<SourceFact>,
    /// The source registry.
    pub(crate) upstream: SourceFact,
    /// Whether the client has another host to go to, and so wants a quick miss more than a slow answer.
    pub(crate) next_host: bool,
    /// Time since the request arrived.
    pub(crate) elapsed: Duration,
    /// When to stop looking; `None` waits as long as sources do.
    pub(crate) limit: Option<Duration>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask the node at this position of [`Facts::nodes`].
    Node(usize),
    /// Ask the source registry.
    Upstream,
    /// Stop, and say this.
    Answer(Refusal),
}

/// An answer without content. There is none for "too many requests": runtimes retry that at once, without a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The source registry has no such content.
    NotFound,
    /// The source registry refused our credentials; the client is not challenged for its own.
    Denied,
    /// Nobody who could know was reached, or everyone is busy: ask somebody else, or again.
    Unavailable,
    /// The same, because of time.
    TimedOut,
}

/// Names the next step.
pub(crate) fn next(facts: &Facts) -> Step {
    if facts.any(Failure::Absent) {
        return Step::Answer(Refusal::NotFound);
    }
    if facts.limit.is_some_and(|limit| facts.elapsed >= limit) {
        return Step::Answer(Refusal::TimedOut);
    }
    // All nodes would say the same. The source registry may know this machine by other credentials: once.
    if facts.nodes.contains(&SourceFact::Failed(Failure::Denied)) {
        return match facts.upstream {
            SourceFact::Untried { suspect } if !(suspect && facts.next_host) => Step::Upstream,
            _ => Step::Answer(verdict(facts)),
        };
    }
    let upstream_knows = facts.any(Failure::Missing) && facts.upstream == (SourceFact::Untried { suspect: false });
    if let Some(position) = facts.untried_node(false).filter(|_| !upstream_knows) {
        return Step::Node(position);
    }
    if facts.upstream == (SourceFact::Untried { suspect: false }) {
        return Step::Upstream;
    }
    // Nothing in good standing is left. A breaker spares time; it must not be what fails a pull.
    if let Some(position) = facts.untried_node(true) {
        return Step::Node(position);
    }
    if facts.upstream == (SourceFact::Untried { suspect: true }) && !facts.next_host {
        return Step::Upstream;
    }
    Step::Answer(verdict(facts))
}

/// What to say once every source has failed: the source registry's word counts before a node's.
fn verdict(facts: &Facts) -> Refusal {
    match facts.upstream {
        // A node spoke for the whole tier.
        _ if facts.nodes.contains(&SourceFact::Failed(Failure::Denied)) => Refusal::Denied,
        // Nodes may have credentials that this proxy has not.
        SourceFact::Failed(Failure::Denied) if facts.any(Failure::Missing) => Refusal::NotFound,
        SourceFact::Failed(Failure::Denied) => Refusal::Denied,
        SourceFact::Failed(Failure::SourceSilent) => Refusal::TimedOut,
        SourceFact::Failed(Failure::Forbidden) if facts.any(Failure::Missing) => Refusal::NotFound,
        SourceFact::Failed(Failure::Forbidden) if facts.nodes.is_empty() => Refusal::Denied,
        _ if facts.any(Failure::SourceSilent) => Refusal::TimedOut,
        _ => Refusal::Unavailable,
    }
}

impl Facts {
    fn any(&self, failure: Failure) -> bool {
        let failed = SourceFact::Failed(failure);
        self.upstream == failed || self.nodes.contains(&failed)
    }

    fn untried_node(&self, suspect: bool) -> Option<usize> {
        if self.any(Failure::SourceSilent) {
            return None;
        }
        self.nodes
            .iter()
            .position(|node| *node == SourceFact::Untried { suspect })
    }
}

#[cfg(test)]
mod tests;
