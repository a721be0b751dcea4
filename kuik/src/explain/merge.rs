//! From what each node says to one explanation. Pure.

use proto::report::{ExplainReport, ManifestHeld};

use super::{BlobExplained, BlobOnNode, Explanation, ManifestExplained};
use crate::ask::Answer;
use crate::platform::AskedPlatform;

/// A report and the name of the node it is from.
#[derive(Clone, Copy)]
struct Report<'answer> {
    node: &'answer str,
    report: &'answer ExplainReport,
}

/// Explains `image` from what the nodes answered. A node that did not answer holds nothing.
pub(super) fn merge(image: &str, asked: &AskedPlatform, answers: &[Answer<ExplainReport>]) -> Explanation {
    let reports: Vec<Report<'_>> = answers.iter().filter_map(Report::of).collect();
    // A node that is behind may still name the image a tag served before.
    let named = reports.iter().filter(|report| report.report.digest.is_some());
    let newest = named
        .max_by_key(|report| report.report.applied_index)
        .map(|report| report.report);
    let manifests = newest.map_or_else(Vec::new, |newest| explain_manifests(newest, asked, &reports));
    let (cached, reason) = verdict(&manifests, asked);
    let silent = answers.iter().filter(|answer| !answer.is_reachable());
    Explanation {
        image: newest.map_or_else(|| image.to_owned(), |newest| newest.image.clone()),
        platform: asked.to_string(),
        cached,
        reason,
        digest: newest.and_then(|newest| newest.digest.clone()),
        checked_at_ms: reports.iter().filter_map(|report| report.report.checked_at_ms).max(),
        stale: newest.is_some_and(|newest| newest.stale),
        desired: newest.is_some_and(|newest| newest.desired),
        private: newest.is_some_and(|newest| newest.private),
        manifests,
        unreachable: silent.map(|answer| answer.node.clone()).collect(),
    }
}

impl<'answer> Report<'answer> {
    fn of(answer: &'answer Answer<ExplainReport>) -> Option<Self> {
        let report = answer.result.as_ref().ok()?;
        let node = &answer.node;
        Some(Self { node, report })
    }

    fn manifest(self, digest: &str) -> Option<&'answer ManifestHeld> {
        self.report.manifests.iter().find(|manifest| manifest.digest == digest)
    }
}

fn explain_manifests(newest: &ExplainReport, asked: &AskedPlatform, reports: &[Report<'_>]) -> Vec<ManifestExplained> {
    // An image without an index is whatever platform it is, and it is what a pull of the tag gets.
    let single = !newest.manifests.iter().any(|manifest| manifest.is_index);
    let is_asked = |manifest: &ManifestHeld| match &manifest.platform {
        _ if single || manifest.is_index => true,
        Some(platform) => asked.matches(platform),
        None => *asked == AskedPlatform::All,
    };
    let explain = |manifest: &ManifestHeld| explain_manifest(manifest, is_asked(manifest), reports);
    newest.manifests.iter().map(explain).collect()
}

fn explain_manifest(manifest: &ManifestHeld, asked: bool, reports: &[Report<'_>]) -> ManifestExplained {
    let same: Vec<_> = reports
        .iter()
        .filter_map(|report| Some((report.node, report.manifest(&manifest.digest)?)))
        .collect();
    let held_by = names(
        same.iter()
            .filter(|(_node, manifest)| manifest.here)
            .map(|(node, _)| *node),
    );
    // Whoever has the manifest knows its blobs, and a digest means the same list on every node.
    let blobs = same
        .iter()
        .find(|(_node, manifest)| manifest.here && !manifest.blobs.is_empty());
    let blobs: Vec<_> = blobs
        .map_or(&[][..], |(_node, manifest)| &manifest.blobs)
        .iter()
        .collect();
    let blobs: Vec<BlobExplained> = blobs
        .into_iter()
        .map(|blob| explain_blob(&blob.digest, blob.size_bytes, &same))
        .collect();
    // An image has at least its configuration: without a list of blobs, nothing is known to be there.
    let whole = manifest.is_index || !blobs.is_empty();
    ManifestExplained {
        digest: manifest.digest.clone(),
        media_type: manifest.media_type.clone(),
        platform: manifest.platform.clone(),
        is_index: manifest.is_index,
        asked,
        cached: whole && !held_by.is_empty() && blobs.iter().all(|blob| !blob.held_by.is_empty()),
        held_by,
        blobs,
    }
}

fn explain_blob(digest: &str, size_bytes: u64, manifests: &[(&str, &ManifestHeld)]) -> BlobExplained {
    let on_node = |(node, manifest): &(&str, &ManifestHeld)| {
        let blob = manifest.blobs.iter().find(|blob| blob.digest == digest)?;
        Some(BlobOnNode {
            node: (*node).to_owned(),
            here: blob.here,
            source: blob.source.clone(),
            fetched_at_ms: blob.fetched_at_ms,
            reason: blob.reason.clone(),
        })
    };
    let nodes: Vec<BlobOnNode> = manifests.iter().filter_map(on_node).collect();
    BlobExplained {
        digest: digest.to_owned(),
        size_bytes,
        held_by: names(nodes.iter().filter(|blob| blob.here).map(|blob| blob.node.as_str())),
        nodes,
    }
}

fn names<'name>(names: impl Iterator<Item = &'name str>) -> Vec<String> {
    names.map(str::to_owned).collect()
}

/// Whether all that was asked about is there, and the sentence that says so.
fn verdict(manifests: &[ManifestExplained], asked: &AskedPlatform) -> (bool, String) {
    if manifests.is_empty() {
        return (false, "no node that answers knows it".to_owned());
    }
    let wanted: Vec<_> = manifests.iter().filter(|manifest| manifest.asked).collect();
    let images: Vec<_> = wanted.iter().filter(|manifest| !manifest.is_index).collect();
    if images.is_empty() {
        return (false, format!("it has no manifest for {asked}"));
    }
    if wanted.iter().any(|manifest| manifest.held_by.is_empty()) {
        return (false, "a manifest is held by no node that answers".to_owned());
    }
    let blobs = images.iter().flat_map(|image| &image.blobs);
    let missing = blobs.clone().filter(|blob| blob.held_by.is_empty()).count();
    if missing > 0 {
        let all = blobs.count();
        return (
            false,
            format!("{missing} of {all} blobs are held by no node that answers"),
        );
    }
    if !wanted.iter().all(|manifest| manifest.cached) {
        return (false, "no node that answers lists the blobs of a manifest".to_owned());
    }
    (true, "every blob is held by a node that answers".to_owned())
}

#[cfg(test)]
mod tests;
