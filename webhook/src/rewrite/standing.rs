//! How one image stands before the tier is asked.

use oci::{ImageReference, rewritten};
use proto::pod::{ANNOTATION_RESTORED, ANNOTATION_REWRITE_IMAGES, Place, original_image_key};

use super::{Occasion, Rules, Subject};
use crate::kept::Kept;
use crate::pod::{Pod, Slot};
use crate::proxies::Proxies;

/// How an image stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// None of this occasion's business.
    Left,
    /// `image` is what stands there afterwards.
    Keep { image: String, why: Kept },
    /// To be rewritten if the tier admits it; at least one, the likeliest first. Of several the tier tells which is meant,
    /// also where the rules leave it alone.
    Ask(Vec<Candidate>),
}

/// What an image's user may have written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// As it was written.
    pub(super) original: String,
    /// As the tier knows it.
    pub(super) canonical: String,
    /// As the proxy is asked for it; or why the rules leave it alone, if this is what was meant.
    pub(super) rewritten: Result<String, Kept>,
}

/// How the image stands under the rules.
pub(super) fn of(subject: &Subject, slot: &Slot<'_>, rules: &Rules) -> Standing {
    if !is_in_question(subject, slot, rules.proxy_port) {
        return Standing::Left;
    }
    let keep = |why| Standing::Keep {
        image: slot.image.to_owned(),
        why,
    };
    let Some((port, stripped)) = rewritten::split(slot.image) else {
        return match &subject.held {
            Some(why) => keep(why.clone()),
            None => of_originals(&[slot.image.to_owned()], slot, rules),
        };
    };
    if let Some(original) = annotated(&subject.pod, slot, port).map(str::to_owned) {
        return match &subject.held {
            // A label that another webhook put on it after we rewrote it.
            Some(why) => Standing::Keep {
                image: original,
                why: why.clone(),
            },
            None => of_originals(&[original], slot, rules),
        };
    }
    if port != rules.proxy_port {
        return keep(Kept::RegistryOnNode(format!("localhost:{port}")));
    }
    of_originals(&likely_originals(&subject.pod, slot, stripped), slot, rules)
}

/// Whether the image was rewritten by us, on whatever port.
pub(super) fn is_ours(pod: &Pod, slot: &Slot<'_>) -> bool {
    rewritten::split(slot.image).is_some_and(|(port, _stripped)| annotated(pod, slot, port).is_some())
}

/// Whether the pod asks for rewriting when it is changed.
pub(super) fn asks_for_rewriting(pod: &Pod) -> bool {
    pod.annotation(ANNOTATION_REWRITE_IMAGES) == Some("true")
}

/// Whether this occasion may change the image. A living pod's containers start anew when their image changes, so only
/// those are touched that this very update changes, or that its user asks for.
fn is_in_question(subject: &Subject, slot: &Slot<'_>, proxy_port: u16) -> bool {
    let old = match &subject.occasion {
        Occasion::Create => return true,
        Occasion::Ephemeral { old } => return old.image_of(slot).is_none(),
        Occasion::Update { old } => old,
    };
    if !can_change(slot) || is_restored(&subject.pod, slot) {
        return false;
    }
    let port = rewritten::split(slot.image).map(|(port, _stripped)| port);
    let changed = old.image_of(slot) != Some(slot.image);
    if changed && port == Some(proxy_port) {
        return true;
    }
    let asked = asks_for_rewriting(&subject.pod);
    let asked_now = asked && !asks_for_rewriting(old);
    let old_port = port.is_some_and(|port| port != proxy_port) && is_ours(&subject.pod, slot);
    asked && (changed || asked_now || (old_port && !subject.pod.has_pulled(slot)))
}

/// Whether the API server lets the image of a living pod be changed.
fn can_change(slot: &Slot<'_>) -> bool {
    matches!(slot.place, Place::Container | Place::InitContainer)
}

/// Why an image that nobody can change any more is left alone: its pod may come to a node that has no proxy.
fn for_good(slot: &Slot<'_>, rules: &Rules) -> Option<Kept> {
    (!can_change(slot) && rules.proxies == Proxies::Somewhere).then_some(Kept::NotEveryNode)
}

/// Whether the controller gave the original back, because the proxy of its node cannot be reached.
fn is_restored(pod: &Pod, slot: &Slot<'_>) -> bool {
    let notes = pod.annotation(ANNOTATION_RESTORED);
    let notes = notes.and_then(|text| serde_json::from_str::<serde_json::Map<_, _>>(text).ok());
    notes.is_some_and(|notes| notes.contains_key(&slot.key()))
}

/// The original that an annotation keeps, if the image is what became of it.
fn annotated<'pod>(pod: &'pod Pod, slot: &Slot<'_>, port: u16) -> Option<&'pod str> {
    let original = pod.annotation(&original_image_key(slot.place, slot.name))?;
    let rewritten = rewritten::rewrite(original, port).ok()?;
    (rewritten == slot.image).then_some(original)
}

/// What a rewritten image may have been. An annotation that is out of date still tells the registry.
fn likely_originals(pod: &Pod, slot: &Slot<'_>, stripped: &str) -> Vec<String> {
    let originals = rewritten::originals(stripped);
    let host = |image: &str| Some(image.parse::<ImageReference>().ok()?.repository.host);
    let key = original_image_key(slot.place, slot.name);
    let Some(known) = pod.annotation(&key).and_then(host) else {
        return originals;
    };
    let same: Vec<_> = originals
        .iter()
        .filter(|image| host(image) == Some(known.clone()))
        .cloned()
        .collect();
    if same.is_empty() { originals } else { same }
}

fn of_originals(originals: &[String], slot: &Slot<'_>, rules: &Rules) -> Standing {
    let mut candidates = Vec::with_capacity(originals.len());
    let mut refusal = None;
    for original in originals {
        match of_original(original, slot, rules) {
            Ok(candidate) => candidates.push(candidate),
            Err(keep) => refusal = refusal.or(Some(keep)),
        }
    }
    match (candidates.as_slice(), refusal) {
        ([], Some(keep)) => keep,
        ([only], _) => match &only.rewritten {
            Ok(_) => Standing::Ask(candidates),
            Err(why) => Standing::Keep {
                image: only.original.clone(),
                why: why.clone(),
            },
        },
        _ => Standing::Ask(candidates),
    }
}

fn of_original(original: &str, slot: &Slot<'_>, rules: &Rules) -> Result<Candidate, Standing> {
    let keep = |why| Standing::Keep {
        image: original.to_owned(),
        why,
    };
    let unreadable = |error: oci::ReferenceError| Standing::Keep {
        image: slot.image.to_owned(),
        why: Kept::Unreadable(daemon::runtime::one_line(&error)),
    };
    let parsed = original.parse::<ImageReference>().map_err(unreadable)?;
    let by_rule = rules.policy.keeps(slot, original, &parsed);
    let rewritten = match by_rule.or_else(|| for_good(slot, rules)) {
        // Nothing is pulled, so what is on the node counts, under the name it has there.
        Some(why @ Kept::PullPolicyNever) => {
            return Err(Standing::Keep {
                image: slot.image.to_owned(),
                why,
            });
        }
        Some(why) => Err(why),
        None if is_on_node(parsed.repository.host.host()) => {
            return Err(keep(Kept::RegistryOnNode(parsed.repository.host.to_string())));
        }
        None => Ok(rewritten::rewrite(original, rules.proxy_port).map_err(unreadable)?),
    };
    Ok(Candidate {
        original: original.to_owned(),
        canonical: parsed.canonical(),
        rewritten,
    })
}

fn is_on_node(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
