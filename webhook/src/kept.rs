//! Why an image, or all of a pod's, is left as it was written.

use std::fmt;

use proto::v1::Admission;

use crate::tier::Answer;

/// Of a reason of the tier this much is written on a pod.
const REASON_CHARS_MAX: usize = 200;

/// Why an image keeps, or gets back, the reference its user wrote. Printed as `Word: sentence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// `imagePullPolicy: Never`: it is on the node or nowhere.
    PullPolicyNever,
    /// It is pulled at every start, and the policy leaves such images alone.
    PullPolicyAlways,
    /// A pattern of the policy excludes it.
    Ignored(String),
    /// The policy lists what is accepted, and this is not among it.
    NotAccepted,
    /// It is no image reference, or none that can be rewritten.
    Unreadable(String),
    /// It comes from a registry on the node itself, which nobody else reaches.
    RegistryOnNode(String),
    /// The pod runs where no proxy does.
    NoProxyThere(&'static str),
    /// The pod is made by an operator that compares pods with what it wrote.
    Operator(String),
    /// The pod's owner makes it again and again.
    Loop(String),
    /// Private, and the namespace has no grant.
    NoGrant,
    /// Private, and nobody has a grant.
    NeedsCredentials,
    /// The tier cannot reach or does not trust the source; with its reason, which may be empty.
    SourceUnreachable(String),
    /// The source does not have it.
    NotFound,
    /// The tier cannot serve; with its reason, which may be empty.
    TierNotReady(String),
    /// No cache node answered in time.
    TierSilent,
    /// No proxy is ready to be pulled through.
    NoProxy,
    /// A node lacks its proxy, and nobody can put this image back.
    NotEveryNode,
}

impl Kept {
    /// All labels there are, for metrics.
    pub const LABELS: [&'static str; 17] = [
        "pull_policy_never",
        "pull_policy_always",
        "ignored",
        "not_accepted",
        "unreadable",
        "registry_on_node",
        "operator",
        "loop",
        "no_grant",
        "needs_credentials",
        "source_unreachable",
        "not_found",
        "tier_not_ready",
        "tier_silent",
        "no_proxy",
        "no_proxy_there",
        "not_every_node",
    ];

    /// What the tier's answer means for an image; nothing where it may be rewritten.
    pub fn by_answer(answer: &Answer) -> Option<Self> {
        match answer.admission {
            Admission::Admitted => None,
            Admission::NoGrant => Some(Self::NoGrant),
            Admission::NeedsCredentials => Some(Self::NeedsCredentials),
            Admission::SourceUnreachable => Some(Self::SourceUnreachable(printable(&answer.reason))),
            Admission::NotFound => Some(Self::NotFound),
            Admission::NotReady | Admission::Unspecified => Some(Self::TierNotReady(printable(&answer.reason))),
        }
    }

    /// The label in metrics.
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.position()]
    }

    /// Its place among [`Kept::LABELS`].
    pub(crate) fn position(&self) -> usize {
        match self {
            Self::PullPolicyNever => 0,
            Self::PullPolicyAlways => 1,
            Self::Ignored(_) => 2,
            Self::NotAccepted => 3,
            Self::Unreadable(_) => 4,
            Self::RegistryOnNode(_) => 5,
            Self::Operator(_) => 6,
            Self::Loop(_) => 7,
            Self::NoGrant => 8,
            Self::NeedsCredentials => 9,
            Self::SourceUnreachable(_) => 10,
            Self::NotFound => 11,
            Self::TierNotReady(_) => 12,
            Self::TierSilent => 13,
            Self::NoProxy => 14,
            Self::NoProxyThere(_) => 15,
            Self::NotEveryNode => 16,
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PullPolicyNever => f.write_str("PullPolicyNever: it is never pulled"),
            Self::PullPolicyAlways => {
                f.write_str("PullPolicyAlways: it is pulled at every start, and the policy leaves such images alone")
            }
            Self::Ignored(pattern) => write!(f, "Ignored: it matches ignored_images {pattern:?}"),
            Self::NotAccepted => f.write_str("NotAccepted: it matches none of accepted_images"),
            Self::Unreadable(reason) => write!(f, "Unreadable: {reason}"),
            Self::RegistryOnNode(host) => write!(f, "RegistryOnNode: {host} is a registry on the node itself"),
            Self::NoProxyThere(place) => write!(f, "NoProxyThere: no proxy runs on {place}"),
            Self::Operator(owner) => write!(f, "Operator: pods of {owner} are left to their operator"),
            Self::Loop(owner) => write!(
                f,
                "Loop: {owner} makes this pod again and again; its pods are left alone for an hour"
            ),
            Self::NoGrant => {
                f.write_str("NoGrant: the repository is private, and no credential of this namespace has opened it yet")
            }
            Self::NeedsCredentials => {
                f.write_str("NeedsCredentials: the source wants credentials, and none has opened it yet")
            }
            Self::SourceUnreachable(reason) => write!(
                f,
                "SourceUnreachable: the cache does not reach or trust its registry, and does not hold it{}",
                behind(reason)
            ),
            Self::NotFound => f.write_str("NotFound: its registry does not have it"),
            Self::TierNotReady(reason) => {
                write!(f, "TierNotReady: the cache cannot serve pulls now{}", behind(reason))
            }
            Self::TierSilent => f.write_str("TierSilent: no cache node answered in time"),
            Self::NoProxy => f.write_str("NoProxy: no proxy is known to be ready"),
            Self::NotEveryNode => f.write_str(
                "NotEveryNode: a node lacks its proxy now, and this image could not be put back if the pod came there",
            ),
        }
    }
}

/// What another program says, as it may stand in an annotation.
fn printable(reason: &str) -> String {
    let shown = |char: char| match char {
        ' '..='~' => char,
        _ => '?',
    };
    reason.chars().map(shown).take(REASON_CHARS_MAX).collect()
}

fn behind(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(" ({reason})"),
    }
}

/// Why a pod is not looked at at all, and gets no annotation either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untouched {
    /// Its namespace is kuik's own, the system's, or ignored by the policy.
    Namespace,
    /// It opted out by label.
    OptedOut,
    /// A kubelet made it from a file; the API server's copy is only a mirror.
    Mirror,
    /// It is ending.
    Ending,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_admission_but_one_keeps_the_image() {
        for admission in (0..=6).map(|number| Admission::try_from(number).unwrap()) {
            let kept = Kept::by_answer(&admission.into());
            assert_eq!(kept.is_none(), admission == Admission::Admitted, "{admission:?}");
        }
    }

    #[test]
    fn the_tiers_reason_stands_behind_ours_bounded_and_printable() {
        let kept = |admission, reason: &str| {
            let reason = reason.to_owned();
            Kept::by_answer(&Answer { admission, reason }).unwrap().to_string()
        };
        assert_eq!(
            kept(Admission::NotReady, "no controller\n\u{202e}is heard"),
            "TierNotReady: the cache cannot serve pulls now (no controller??is heard)"
        );
        assert!(kept(Admission::SourceUnreachable, "no quorum").ends_with("does not hold it (no quorum)"));
        assert!(kept(Admission::NotReady, "").ends_with("pulls now"));
        let long = kept(Admission::NotReady, &"é".repeat(9000));
        assert_eq!(long.matches('?').count(), REASON_CHARS_MAX);
    }

    #[test]
    fn reasons_begin_with_a_word_for_programs() {
        let table = [Kept::NoGrant, Kept::Ignored("^a".into()), Kept::TierSilent];
        let words = table.map(|kept| kept.to_string().split_once(": ").unwrap().0.to_owned());
        assert_eq!(words, ["NoGrant", "Ignored", "TierSilent"]);
        assert_eq!(Kept::NoProxy.label(), "no_proxy");
    }
}
