//! Which pods and images are left alone: kube-image-keeper v1's settings, and what was learnt since.

pub mod file;

use std::collections::BTreeSet;

use oci::ImageReference;
use proto::pod::LABEL_CACHING_POLICY;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::config::line_of;
use crate::kept::{Kept, Untouched};
use crate::pod::{OwnerReference, Pod, Slot};

/// Owners whose operators compare pods with what they wrote and make them again when an image differs.
pub const SKIP_OWNERS_DEFAULT: [&str; 4] = [
    "postgresql.cnpg.io/Cluster",
    "nifi.konpyutaika.com/NifiCluster",
    "nifi.orange.com/NifiCluster",
    "kafka.banzaicloud.io/KafkaCluster",
];
/// Labels of such pods, for those whose owner does not tell.
pub const SKIP_LABELS_DEFAULT: [&str; 1] = ["cnpg.io/podRole"];
/// What the system runs must not wait for us.
const SYSTEM_NAMESPACE: &str = "kube-system";
/// Annotation of the API server's copy of a static pod.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Label that EKS puts on pods for Fargate, which runs no DaemonSets.
const FARGATE_LABEL: &str = "eks.amazonaws.com/fargate-profile";
/// Memory one pattern may take once compiled; a longer one is a mistake.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A checked policy.
#[derive(Debug, Clone)]
pub struct Policy {
    ignored_namespaces: BTreeSet<String>,
    ignored_images: Vec<Regex>,
    accepted_images: Vec<Regex>,
    ignore_pull_policy_always: bool,
    skip_owners: Vec<String>,
    skip_labels: Vec<String>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, a key that does not exist, or a value of the wrong kind.
    #[error("policy line {line}: {reason}")]
    Parse {
        /// Where.
        line: usize,
        /// What is wrong there; names the key.
        reason: String,
    },
    /// A pattern that is no regular expression.
    #[error("policy key {key}: pattern {pattern:?}")]
    Pattern {
        /// The key.
        key: &'static str,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: Box<regex::Error>,
    },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    #[serde(default)]
    ignored_namespaces: BTreeSet<String>,
    #[serde(default)]
    ignored_images: Vec<String>,
    #[serde(default)]
    accepted_images: Vec<String>,
    #[serde(default)]
    ignore_pull_policy_always: bool,
    skip_owners: Option<Vec<String>>,
    skip_labels: Option<Vec<String>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::try_from(RawPolicy::default()).expect("no pattern can be wrong")
    }
}

impl Policy {
    /// Reads a policy file's text.
    ///
    /// # Errors
    /// [`PolicyError`], which names line, key and pattern.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let raw: RawPolicy = toml::from_str(text).map_err(|error| PolicyError::Parse {
            line: line_of(text, &error),
            reason: error.message().replace('\n', " "),
        })?;
        raw.try_into()
    }

    /// Whether this pod is not to be looked at; `own_namespaces` are kuik's.
    pub fn untouched(&self, pod: &Pod, namespace: &str, own_namespaces: &[String]) -> Option<Untouched> {
        let own = own_namespaces.iter().any(|own| own == namespace);
        if own || namespace == SYSTEM_NAMESPACE || self.ignored_namespaces.contains(namespace) {
            return Some(Untouched::Namespace);
        }
        if pod.label(LABEL_CACHING_POLICY) == Some("ignore") {
            return Some(Untouched::OptedOut);
        }
        let of_node = |owner: &OwnerReference| owner.kind == "Node" && owner.group().is_empty();
        if pod.annotation(MIRROR_ANNOTATION).is_some() || pod.owners().iter().any(of_node) {
            return Some(Untouched::Mirror);
        }
        pod.metadata.deletion_timestamp.is_some().then_some(Untouched::Ending)
    }

    /// Whether all images of this pod are to be left alone, wherever they come from.
    pub fn holds(&self, pod: &Pod) -> Option<Kept> {
        place_without_proxy(pod)
            .map(Kept::NoProxyThere)
            .or_else(|| self.operator(pod))
    }

    fn operator(&self, pod: &Pod) -> Option<Kept> {
        let skipped = |name: &String| self.skip_owners.contains(name);
        let owner = pod
            .owners()
            .iter()
            .map(|owner| format!("{}/{}", owner.group(), owner.kind));
        let label = self.skip_labels.iter().find(|label| has_label(pod, label));
        let label = label.map(|label| format!("label {label}"));
        owner.into_iter().find(skipped).or(label).map(Kept::Operator)
    }

    /// Whether this image, as its user wrote it, is to be left alone.
    pub fn keeps(&self, slot: &Slot<'_>, original: &str, parsed: &ImageReference) -> Option<Kept> {
        if slot.pull_policy == Some("Never") {
            return Some(Kept::PullPolicyNever);
        }
        if self.ignore_pull_policy_always && is_pulled_always(slot.pull_policy, parsed) {
            return Some(Kept::PullPolicyAlways);
        }
        if let Some(pattern) = self.ignored_images.iter().find(|pattern| pattern.is_match(original)) {
            return Some(Kept::Ignored(pattern.as_str().to_owned()));
        }
        let accepted = |pattern: &Regex| pattern.is_match(original);
        let refused = !self.accepted_images.is_empty() && !self.accepted_images.iter().any(accepted);
        refused.then_some(Kept::NotAccepted)
    }
}

/// Where the pod will run, if the proxies' DaemonSet has no pods there.
fn place_without_proxy(pod: &Pod) -> Option<&'static str> {
    let os = pod.spec.os.as_ref().map(|os| os.name.as_str());
    if os == Some("windows") || pod.node_selector("kubernetes.io/os") == Some("windows") {
        return Some("Windows");
    }
    if pod.label(FARGATE_LABEL).is_some() {
        return Some("Fargate");
    }
    (pod.node_selector("type") == Some("virtual-kubelet")).then_some("virtual nodes")
}

/// Kubernetes' own rule: without a policy, `latest` is pulled at every start.
fn is_pulled_always(pull_policy: Option<&str>, image: &ImageReference) -> bool {
    match pull_policy {
        Some(policy) => policy == "Always",
        None => image.manifest().tag().is_some_and(|tag| tag.as_str() == "latest"),
    }
}

/// `key`, or `key=value`.
fn has_label(pod: &Pod, label: &str) -> bool {
    match label.split_once('=') {
        Some((key, value)) => pod.label(key) == Some(value),
        None => pod.label(label).is_some(),
    }
}

fn defaults(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

impl TryFrom<RawPolicy> for Policy {
    type Error = PolicyError;

    fn try_from(raw: RawPolicy) -> Result<Self, PolicyError> {
        Ok(Self {
            ignored_namespaces: raw.ignored_namespaces,
            ignored_images: patterns("ignored_images", raw.ignored_images)?,
            accepted_images: patterns("accepted_images", raw.accepted_images)?,
            ignore_pull_policy_always: raw.ignore_pull_policy_always,
            skip_owners: raw.skip_owners.unwrap_or_else(|| defaults(&SKIP_OWNERS_DEFAULT)),
            skip_labels: raw.skip_labels.unwrap_or_else(|| defaults(&SKIP_LABELS_DEFAULT)),
        })
    }
}

fn patterns(key: &'static str, texts: Vec<String>) -> Result<Vec<Regex>, PolicyError> {
    let compiled = texts.into_iter().map(|pattern| {
        let compiled = RegexBuilder::new(&pattern).size_limit(PATTERN_BYTES_MAX).build();
        compiled.map_err(|error| PolicyError::Pattern {
            key,
            pattern,
            source: Box::new(error),
        })
    });
    compiled.collect()
}

#[cfg(test)]
mod tests;
