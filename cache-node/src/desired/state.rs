//! How it stands with a desired image, in the words of the contract. Pure.

use std::collections::HashMap;

use meta::{DesiredRecord, TagRecord};
use oci::Digest;
use proto::v1::{ImagePhase, ImageState, ServedDigest};

use super::assess::{Assessed, Resolved};

/// Earlier digests told.
const SERVED_MAX: usize = 8;
/// What is not whole is never all there.
const PERCENT_UNFINISHED_MAX: u64 = 99;

/// Everything an [`ImageState`] is made of.
pub(super) struct Facts<'a> {
    pub(super) reference: String,
    pub(super) record: &'a DesiredRecord,
    pub(super) resolved: &'a Resolved,
    /// Of what is served, else of what is to be filled.
    pub(super) assessed: &'a Assessed,
    /// Bytes received of blobs on their way.
    pub(super) in_flight: &'a HashMap<Digest, u64>,
    /// Least confirmed copies of any of its blobs.
    pub(super) copies: u32,
    pub(super) copies_wanted: u32,
    pub(super) private: bool,
}

pub(super) fn image_state(facts: &Facts<'_>) -> ImageState {
    let phase = phase(facts);
    let is_here = matches!(phase, ImagePhase::Complete | ImagePhase::Ready);
    let tag = facts.resolved.tag.as_ref();
    let stale = tag.is_some_and(|tag| tag.stale_since_ms.is_some());
    let served = facts
        .resolved
        .served
        .as_ref()
        .filter(|_| !facts.assessed.known.is_empty());
    let source = match tag {
        Some(tag) => tag.candidate.as_ref().or(tag.serving.as_ref()),
        None => served,
    };
    ImageState {
        reference: facts.reference.clone(),
        phase: phase.into(),
        digest: served.map(Digest::to_string).unwrap_or_default(),
        source_digest: source.map(Digest::to_string).unwrap_or_default(),
        percent: percent(facts, is_here),
        copies: if is_here { facts.copies } else { 0 },
        copies_wanted: facts.copies_wanted,
        size_bytes: facts.assessed.blobs.values().map(|blob| blob.size_bytes).sum(),
        stale,
        error: error(facts, stale),
        checked_at_ms: tag.map_or(0, checked_at_ms),
        seen_at_source_ms: tag.map_or(0, |tag| tag.checked_at_ms),
        completed_at_ms: facts.record.completed_at_ms.unwrap_or_default(),
        private: facts.private,
        served: tag.map(served_digests).unwrap_or_default(),
    }
}

fn phase(facts: &Facts<'_>) -> ImagePhase {
    let assessed = facts.assessed;
    if assessed.is_whole && !assessed.known.is_empty() {
        return match facts.copies >= facts.copies_wanted {
            true => ImagePhase::Ready,
            false => ImagePhase::Complete,
        };
    }
    if assessed.is_degraded {
        return ImagePhase::Lost;
    }
    if facts.record.error.is_some() {
        return ImagePhase::Failed;
    }
    match assessed.known.is_empty() {
        true => ImagePhase::Known,
        false => ImagePhase::Filling,
    }
}

fn percent(facts: &Facts<'_>, is_here: bool) -> u32 {
    if is_here {
        return 100;
    }
    let blobs = &facts.assessed.blobs;
    let total: u64 = blobs.values().map(|blob| blob.size_bytes).sum();
    let done: u64 = blobs
        .iter()
        .map(|(digest, blob)| match blob.present {
            Some(_) => blob.size_bytes,
            None => facts.in_flight.get(digest).copied().unwrap_or(0).min(blob.size_bytes),
        })
        .sum();
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
    u32::try_from(percent.min(PERCENT_UNFINISHED_MAX)).unwrap_or(0)
}

fn error(facts: &Facts<'_>, stale: bool) -> String {
    match &facts.record.error {
        Some(error) => error.clone(),
        None if stale => "the source did not confirm the tag when it was last asked".to_owned(),
        None => String::new(),
    }
}

fn checked_at_ms(tag: &TagRecord) -> u64 {
    tag.checked_at_ms.max(tag.stale_since_ms.unwrap_or(0))
}

/// What was served since when: each digest since the one before it was replaced.
fn served_digests(tag: &TagRecord) -> Vec<ServedDigest> {
    let digests = tag.serving.iter().chain(tag.history.iter().map(|entry| &entry.digest));
    let since = tag.history.iter().map(|entry| entry.replaced_at_ms).chain([0]);
    let served = digests.zip(since).take(SERVED_MAX);
    served
        .map(|(digest, since_ms)| ServedDigest {
            digest: digest.to_string(),
            since_ms,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use meta::{Gen, NodeId, TagHistoryEntry};

    use super::super::assess::WantedBlob;
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    fn record() -> DesiredRecord {
        DesiredRecord {
            retain: false,
            since_ms: 1,
            list: 0,
            completed_at_ms: None,
            error: None,
        }
    }

    fn assessed(present: &[bool]) -> Assessed {
        let generation = Gen {
            epoch: 1,
            node: NodeId::new(1),
            boot_count: 1,
            counter: 1,
        };
        let blob = |(number, present): (usize, &bool)| {
            let blob = WantedBlob {
                size_bytes: 100,
                present: present.then_some(generation),
            };
            (digest(&number.to_string()), blob)
        };
        Assessed {
            known: vec![digest("manifest")],
            blobs: present.iter().enumerate().map(blob).collect(),
            is_whole: present.iter().all(|present| *present),
            ..Assessed::default()
        }
    }

    fn state(assessed: &Assessed, change: impl FnOnce(&mut Facts<'_>, &mut DesiredRecord)) -> ImageState {
        let in_flight = HashMap::from([(digest("0"), 50)]);
        let (mut own, other) = (record(), record());
        let resolved = Resolved {
            served: Some(digest("manifest")),
            ..Resolved::default()
        };
        let mut facts = Facts {
            reference: "a.example/b:1".into(),
            record: &other,
            resolved: &resolved,
            assessed,
            in_flight: &in_flight,
            copies: 0,
            copies_wanted: 2,
            private: false,
        };
        change(&mut facts, &mut own);
        facts.record = &own;
        image_state(&facts)
    }

    fn phase_of(state: &ImageState) -> ImagePhase {
        state.phase.try_into().unwrap()
    }

    #[test]
    fn an_image_goes_from_known_to_ready() {
        let nothing = state(&Assessed::default(), |_, _| {});
        assert_eq!((phase_of(&nothing), nothing.percent), (ImagePhase::Known, 0));
        assert_eq!(nothing.digest, "");
        let filling = state(&assessed(&[false, true]), |_, _| {});
        assert_eq!((phase_of(&filling), filling.percent), (ImagePhase::Filling, 75));
        let complete = state(&assessed(&[true, true]), |facts, _| facts.copies = 1);
        assert_eq!(
            (phase_of(&complete), complete.percent, complete.copies),
            (ImagePhase::Complete, 100, 1)
        );
        let ready = state(&assessed(&[true, true]), |facts, _| facts.copies = 2);
        assert_eq!(phase_of(&ready), ImagePhase::Ready);
        assert_eq!(ready.digest, digest("manifest").to_string());
    }

    #[test]
    fn what_was_lost_and_what_cannot_be_fetched_says_so() {
        let mut degraded = assessed(&[false, true]);
        degraded.is_degraded = true;
        assert_eq!(phase_of(&state(&degraded, |_, _| {})), ImagePhase::Lost);
        let failed = state(&Assessed::default(), |_, record| record.error = Some("denied".into()));
        assert_eq!(
            (phase_of(&failed), failed.error.as_str()),
            (ImagePhase::Failed, "denied")
        );
        let still_there = state(&assessed(&[true]), |_, record| record.error = Some("denied".into()));
        assert_eq!(phase_of(&still_there), ImagePhase::Complete);
    }

    #[test]
    fn each_digest_is_served_since_the_one_before_was_replaced() {
        let tag = TagRecord {
            serving: Some(digest("c")),
            history: vec![
                TagHistoryEntry {
                    digest: digest("b"),
                    replaced_at_ms: 20,
                },
                TagHistoryEntry {
                    digest: digest("a"),
                    replaced_at_ms: 10,
                },
            ],
            ..TagRecord::default()
        };
        let since: Vec<_> = served_digests(&tag).iter().map(|served| served.since_ms).collect();
        assert_eq!(since, [20, 10, 0]);
    }
}
