//! Since when the nodes on which pods wait have had no ready proxy.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::pod::{PodFacts, PodKey, Waiting};

/// Nodes without a ready proxy, and since when that is known.
#[derive(Debug, Default)]
pub(crate) struct ProxyStandings {
    without: BTreeMap<String, Timestamp>,
}

impl ProxyStandings {
    /// Looks at all pods: where one waits for a rewritten image and no proxy is ready, the clock runs.
    pub(crate) fn observe<'a>(&mut self, pods: impl Iterator<Item = (&'a PodKey, &'a PodFacts)>, now: Timestamp) {
        let (mut waited_on, mut served) = (BTreeSet::new(), BTreeSet::new());
        for (_, pod) in pods.filter(|(_, pod)| !pod.node.is_empty() && !pod.finished) {
            if pod.is_proxy && pod.ready {
                served.insert(pod.node.as_str());
            }
            if pod
                .images
                .iter()
                .any(|image| image.rewritten && image.waiting != Waiting::No)
            {
                waited_on.insert(pod.node.as_str());
            }
        }
        self.without
            .retain(|node, _| waited_on.contains(node.as_str()) && !served.contains(node.as_str()));
        for node in waited_on.difference(&served) {
            self.without.entry((*node).to_owned()).or_insert(now);
        }
    }

    /// Since when `node` is known to have no ready proxy.
    pub(crate) fn without_since(&self, node: &str) -> Option<Timestamp> {
        self.without.get(node).copied()
    }
}
