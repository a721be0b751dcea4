//! The decision: which images of a pod go through the proxy, which keep or get back what their user wrote.
//!
//! Pure. First [`references`] says what the tier must be asked, then [`rewrite`] makes the patch from its answer. What
//! becomes of an image depends on what its user wrote, never on how often the pod was looked at, so that doing it twice
//! is doing it once: a second webhook, a reinvocation, a template copied from a rewritten pod.

mod patch;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use json_patch::Patch;
use proto::pod::{
    ANNOTATION_NOT_REWRITTEN, ANNOTATION_RESTORED, ANNOTATION_REWRITE_IMAGES, LABEL_MANAGED, original_image_key,
};

use crate::kept::Kept;
use crate::pod::{Pod, Slot};
use crate::policy::Policy;
use crate::proxies::Proxies;
use crate::tier::Answer;
use patch::PatchBuilder;
use standing::{Candidate, Standing};

/// A pod on its way into the cluster.
#[derive(Debug, Clone)]
pub struct Subject {
    /// As it came.
    pub pod: Pod,
    /// What is being done with it.
    pub occasion: Occasion,
    /// Why none of its images is to be rewritten, where that is so.
    pub held: Option<Kept>,
}

/// What is being done with a pod.
#[derive(Debug, Clone)]
pub enum Occasion {
    /// It is created.
    Create,
    /// It is changed.
    Update {
        /// As it was.
        old: Box<Pod>,
    },
    /// Ephemeral containers are added; nothing else of the pod can change.
    Ephemeral {
        /// As it was.
        old: Box<Pod>,
    },
}

/// What is rewritten, and to where.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What is left alone.
    pub policy: Arc<Policy>,
    /// The port of the proxies.
    pub proxy_port: u16,
    /// What is known of the proxies.
    pub proxies: Proxies,
}

/// What the tier said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admissions {
    /// It was not asked, or did not answer: nothing is rewritten.
    Withheld(Kept),
    /// Its answer for each reference; one that is missing is not admitted.
    Answered(BTreeMap<String, Answer>),
}

/// What becomes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes through the proxy from now on.
    Rewritten,
    /// It did before, and may.
    Already,
    /// It stays as its user wrote it.
    Kept(Kept),
    /// It came rewritten and gets back what its user wrote.
    GivenBack(Kept),
    /// It is none of this occasion's business.
    Left,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewriting {
    /// What to change; empty when nothing.
    pub patch: Patch,
    /// What was decided for each image, in the pod's order.
    pub decisions: Vec<Decision>,
}

/// Canonical references the tier must be asked about, each once.
pub fn references(subject: &Subject, rules: &Rules) -> Vec<String> {
    let images = subject.pod.images().into_iter();
    let standings = images.map(|slot| standing::of(subject, &slot, rules));
    let asked: BTreeSet<String> = standings
        .flat_map(|standing| match standing {
            Standing::Ask(candidates) => candidates,
            Standing::Left | Standing::Keep { .. } => Vec::new(),
        })
        .map(|candidate| candidate.canonical)
        .collect();
    asked.into_iter().collect()
}

/// Decides about every image, and makes the smallest patch that carries it out.
pub fn rewrite(subject: &Subject, rules: &Rules, admissions: &Admissions) -> Rewriting {
    let images = subject.pod.images();
    let verdicts = images.iter().map(|slot| {
        let standing = standing::of(subject, slot, rules);
        verdict(slot, standing, admissions)
    });
    let verdicts: Vec<Verdict> = verdicts.collect();
    let mut patch = PatchBuilder::new(&subject.pod);
    for (slot, verdict) in images.iter().zip(&verdicts) {
        if let Some(image) = verdict.image.as_ref().filter(|image| *image != slot.image) {
            patch.replace(&slot.path(), image);
        }
    }
    // The API server takes nothing else from a change to ephemeral containers.
    if !matches!(subject.occasion, Occasion::Ephemeral { .. }) {
        describe(&mut patch, subject, &images, &verdicts);
    }
    Rewriting {
        patch: patch.build(),
        decisions: verdicts.into_iter().map(|verdict| verdict.decision).collect(),
    }
}

struct Verdict {
    decision: Decision,
    /// What stands there afterwards, where that is our business.
    image: Option<String>,
    /// What its user wrote, where it goes through the proxy.
    original: Option<String>,
}

fn verdict(slot: &Slot<'_>, standing: Standing, admissions: &Admissions) -> Verdict {
    match standing {
        Standing::Left => Verdict {
            decision: Decision::Left,
            image: None,
            original: None,
        },
        Standing::Keep { image, why } => kept(slot, image, why),
        Standing::Ask(candidates) => match admitted(candidates, admissions) {
            Ok((original, rewritten)) => Verdict {
                decision: if rewritten == slot.image {
                    Decision::Already
                } else {
                    Decision::Rewritten
                },
                image: Some(rewritten),
                original: Some(original),
            },
            Err((original, why)) => kept(slot, original, why),
        },
    }
}

fn kept(slot: &Slot<'_>, image: String, why: Kept) -> Verdict {
    let decision = if image == slot.image {
        Decision::Kept(why)
    } else {
        Decision::GivenBack(why)
    };
    Verdict {
        decision,
        image: Some(image),
        original: None,
    }
}

/// The image that is meant and admitted, and what becomes of it; or what its user most likely wrote, and why it stays.
///
/// The next candidate is asked for only where the one before has no registry: a private image must not be reached by
/// the public name of another.
fn admitted(candidates: Vec<Candidate>, admissions: &Admissions) -> Result<(String, String), (String, Kept)> {
    let mut refusal = None;
    for Candidate {
        original,
        canonical,
        rewritten,
    } in candidates
    {
        let why = match admissions {
            Admissions::Withheld(why) => Some(why.clone()),
            Admissions::Answered(answers) => {
                let missing = || Some(Kept::TierNotReady(String::new()));
                answers.get(&canonical).map_or_else(missing, Kept::by_answer)
            }
        };
        let has_registry = !matches!(why, Some(Kept::SourceUnreachable(_)));
        let why = match (rewritten, why) {
            (Ok(rewritten), None) => return Ok((original, rewritten)),
            (Err(by_rule), _) => by_rule,
            (Ok(_), Some(why)) => why,
        };
        if has_registry {
            return Err((original, why));
        }
        refusal = refusal.or(Some((original, why)));
    }
    Err(refusal.expect("there is at least one candidate"))
}

/// Says on the pod what was done: label and annotations.
fn describe(patch: &mut PatchBuilder<'_>, subject: &Subject, images: &[Slot<'_>], verdicts: &[Verdict]) {
    patch.label(LABEL_MANAGED, "true");
    let pod = &subject.pod;
    let mut reasons = Notes::read(pod, ANNOTATION_NOT_REWRITTEN, images);
    let mut restored = Notes::read(pod, ANNOTATION_RESTORED, images);
    for (slot, verdict) in images.iter().zip(verdicts) {
        let key = original_image_key(slot.place, slot.name);
        match &verdict.decision {
            Decision::Left => continue,
            Decision::Rewritten | Decision::Already => {
                reasons.now.remove(&slot.key());
            }
            Decision::Kept(why) | Decision::GivenBack(why) => {
                reasons.now.insert(slot.key(), why.to_string());
            }
        }
        restored.now.remove(&slot.key());
        patch.annotation(&key, verdict.original.as_deref());
    }
    reasons.write(patch);
    restored.write(patch);
    let all_left = verdicts.iter().all(|verdict| verdict.decision == Decision::Left);
    if all_left && pod.annotation(ANNOTATION_REWRITE_IMAGES).is_some() {
        // Whoever wrote it meant it: the controller says "false" where it gives an original back.
        return;
    }
    let rewritten = is_rewritten(subject, images, verdicts);
    patch.annotation(
        ANNOTATION_REWRITE_IMAGES,
        Some(if rewritten { "true" } else { "false" }),
    );
}

/// Whether any image goes through the proxy after this, or the pod was known to ask for it.
fn is_rewritten(subject: &Subject, images: &[Slot<'_>], verdicts: &[Verdict]) -> bool {
    let through_proxy = images
        .iter()
        .zip(verdicts)
        .any(|(slot, verdict)| match verdict.decision {
            Decision::Rewritten | Decision::Already => true,
            Decision::Kept(_) | Decision::GivenBack(_) => false,
            Decision::Left => standing::is_ours(&subject.pod, slot),
        });
    let asked_before = match &subject.occasion {
        Occasion::Create => false,
        Occasion::Update { old } | Occasion::Ephemeral { old } => {
            standing::asks_for_rewriting(old) && standing::asks_for_rewriting(&subject.pod)
        }
    };
    through_proxy || asked_before
}

/// An annotation that tells something of images, by [`Slot::key`].
struct Notes {
    annotation: &'static str,
    before: Option<BTreeMap<String, String>>,
    now: BTreeMap<String, String>,
}

impl Notes {
    /// What is noted of images that are still there. What is no such annotation counts as empty.
    fn read(pod: &Pod, annotation: &'static str, images: &[Slot<'_>]) -> Self {
        let written = pod.annotation(annotation);
        let before: Option<BTreeMap<String, String>> = written.and_then(|text| serde_json::from_str(text).ok());
        let keys: BTreeSet<String> = images.iter().map(Slot::key).collect();
        let mut now = before.clone().unwrap_or_default();
        now.retain(|key, _reason| keys.contains(key));
        Self {
            annotation,
            before,
            now,
        }
    }

    fn write(self, patch: &mut PatchBuilder<'_>) {
        if self.now == self.before.unwrap_or_default() {
            return;
        }
        let text = serde_json::to_string(&self.now).expect("a map of strings is JSON");
        let text = (!self.now.is_empty()).then_some(text);
        patch.annotation(self.annotation, text.as_deref());
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
