//! Fills desired images: asks for the tag nobody knows, fetches the manifests nobody has, and hands the rest to completion.
//!
//! A source is asked only for what is missing. What fails is tried again, later each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use meta::{Command, DesiredRecord, NoteDesired};
use oci::{Digest, ImageReference, ManifestReference};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::assess::{Assessed, Resolved};
use crate::asked::Asked;
use crate::blobs::Blobs;
use crate::completion::Completion;
use crate::manifests::Manifests;
use crate::pull_error::PullError;
use crate::recorder::Recorder;
use crate::sources::Sources;
use crate::tags::Tags;

/// Images worked on at once by one node: clients come first.
const AT_ONCE: usize = 8;
/// Pause after a first failure; doubles up to the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long completion is left alone before it is looked at whether the source still has what is missing.
const STUCK_AFTER: Duration = Duration::from_secs(20);
/// How long a source may take to say whether it has a blob.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);
/// Longest error kept.
const ERROR_CHARS_MAX: usize = 250;

/// What the filler works with.
pub struct FillerParts {
    /// Answers tags.
    pub tags: Arc<Tags>,
    /// Finds manifests.
    pub manifests: Arc<Manifests>,
    /// Makes images whole.
    pub completion: Completion,
    /// Says whether there is room for more.
    pub blobs: Arc<Blobs>,
    /// Says why a blob does not come.
    pub sources: Arc<Sources>,
    /// Takes what is learned.
    pub recorder: Recorder,
    /// Where fills of images run.
    pub tasks: TaskSet,
}

/// Sees to it that desired images are filled.
#[derive(Clone)]
pub struct Filler {
    inner: Arc<Inner>,
}

struct Inner {
    parts: FillerParts,
    permits: Arc<Semaphore>,
    attempts: Mutex<HashMap<String, Attempt>>,
}

/// How it goes with one image.
#[derive(Debug, Clone)]
struct Attempt {
    failures: u32,
    not_before: Instant,
    is_running: bool,
    /// How many blobs were missing, and since when.
    missing: (usize, Instant),
    /// Who may read it when it was last tried.
    access: u64,
}

/// What an image needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Rest,
    AskTag,
    Fetch(Vec<Digest>),
    /// Make these manifests whole; the blob is one that is missing, with its length in bytes.
    Complete(Vec<Digest>, Option<(Digest, u64)>),
}

fn step(resolved: &Resolved, assessed: &Assessed) -> Step {
    if resolved.to_fill.is_none() {
        return Step::AskTag;
    }
    if !assessed.missing.is_empty() {
        return Step::Fetch(assessed.missing.clone());
    }
    if assessed.is_whole {
        return Step::Rest;
    }
    let absent = assessed.absent().next().map(|(digest, bytes)| (digest.clone(), bytes));
    Step::Complete(assessed.known.clone(), absent)
}

/// The pause after so many failures in a row; `random` is drawn evenly from 0 to 1.
fn pause(failures: u32, random: f64) -> Duration {
    let longest = PAUSE_MIN
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(PAUSE_MAX);
    longest.mul_f64(0.5 + random / 2.0)
}

impl Filler {
    /// Makes one of `parts`.
    pub fn new(parts: FillerParts) -> Self {
        let inner = Inner {
            parts,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            attempts: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Looks at an image of this node's and does what it needs next, unless that failed a moment ago.
    ///
    /// `access` stands for who may read the image: when it changes, what failed is tried at once.
    pub(super) fn see(
        &self,
        reference: &ImageReference,
        record: &DesiredRecord,
        resolved: &Resolved,
        assessed: &Assessed,
        access: u64,
    ) {
        let step = step(resolved, assessed);
        if step == Step::Rest {
            self.rest(reference, record);
            return;
        }
        let now = Instant::now();
        let missing = assessed.absent().count();
        if !self.inner.begin(reference, missing, access, now) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.inner.permits).try_acquire_owned() else {
            self.inner.end(reference, None);
            return;
        };
        let (inner, reference) = (Arc::clone(&self.inner), reference.clone());
        let (noted, candidate) = (record.error.clone(), resolved.to_fill.clone());
        self.inner.parts.tasks.spawn_request(async move {
            let _permit = permit;
            let ended = inner.take(&reference, candidate.as_ref(), &step).await;
            inner.note(&reference, noted.as_deref(), ended.as_ref().err());
            inner.end(&reference, Some(ended.is_ok()));
        });
    }

    /// Forgets images that are desired no more, or not this node's.
    pub(super) fn retain(&self, own: impl Fn(&str) -> bool) {
        self.inner
            .lock()
            .retain(|reference, attempt| attempt.is_running || own(reference));
    }

    fn rest(&self, reference: &ImageReference, record: &DesiredRecord) {
        self.inner.lock().remove(&reference.to_string());
        if record.completed_at_ms.is_none() || record.error.is_some() {
            self.inner.parts.recorder.record(Command::NoteDesired(NoteDesired {
                reference: reference.clone(),
                complete: true,
                error: None,
            }));
        }
    }
}

impl Inner {
    /// Whether to try now; if so, nobody else does until [`Inner::end`].
    fn begin(&self, reference: &ImageReference, missing: usize, access: u64, now: Instant) -> bool {
        let mut attempts = self.lock();
        let attempt = attempts.entry(reference.to_string()).or_insert(Attempt {
            failures: 0,
            not_before: now,
            is_running: false,
            missing: (missing, now),
            access,
        });
        if attempt.missing.0 != missing {
            attempt.missing = (missing, now);
        }
        if attempt.access != access {
            attempt.access = access;
            attempt.not_before = now;
        }
        if attempt.is_running || now < attempt.not_before {
            return false;
        }
        attempt.is_running = true;
        true
    }

    fn end(&self, reference: &ImageReference, succeeded: Option<bool>) {
        let mut attempts = self.lock();
        let Some(attempt) = attempts.get_mut(&reference.to_string()) else {
            return;
        };
        attempt.is_running = false;
        match succeeded {
            Some(true) => {
                attempt.failures = 0;
                attempt.not_before = Instant::now() + PAUSE_MIN;
            }
            Some(false) => {
                attempt.failures = attempt.failures.saturating_add(1);
                attempt.not_before = Instant::now() + pause(attempt.failures, fastrand::f64());
            }
            None => {}
        }
    }

    fn is_stuck(&self, reference: &ImageReference) -> bool {
        let attempts = self.lock();
        let attempt = attempts.get(&reference.to_string());
        attempt.is_some_and(|attempt| attempt.missing.1.elapsed() >= STUCK_AFTER)
    }

    async fn take(&self, reference: &ImageReference, candidate: Option<&Digest>, step: &Step) -> Result<(), PullError> {
        let repository = &reference.repository;
        match step {
            Step::Rest => Ok(()),
            Step::AskTag => match reference.manifest() {
                ManifestReference::Tag(tag) => {
                    let asked = Asked::by_this_node();
                    self.parts.tags.by_tag(repository, &tag, asked).await.map(|_| ())
                }
                ManifestReference::Digest(_) => Ok(()),
            },
            Step::Fetch(digests) => {
                for digest in digests {
                    let found = self
                        .parts
                        .manifests
                        .by_digest(repository, digest, Asked::by_this_node())
                        .await?;
                    // Whoever fetched it may have had no quorum; this node knows that the image is to be kept.
                    self.parts.manifests.learned(repository, &found.raw, None);
                }
                Ok(())
            }
            Step::Complete(manifests, absent) => {
                for digest in manifests {
                    self.parts.completion.offer(repository, digest);
                }
                if let (ManifestReference::Tag(tag), Some(candidate)) = (reference.manifest(), candidate) {
                    self.parts.completion.promote_when_whole(repository, &tag, candidate);
                }
                match absent.as_ref().filter(|_| self.is_stuck(reference)) {
                    Some((blob, bytes)) => self.probe(repository, blob, *bytes).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// Asks why a blob does not come.
    async fn probe(&self, repository: &oci::Repository, blob: &Digest, bytes: u64) -> Result<(), PullError> {
        if let Some(node) = self.parts.blobs.owner_without_room(repository, blob, bytes).await {
            let why = format!("no room for a layer of {bytes} bytes on node-{node}: the cache needs a larger volume");
            return Err(PullError::unavailable(why));
        }
        let probed = self.parts.sources.head_blob(repository, blob, PROBE_PATIENCE).await;
        probed.map(|_| ())
    }

    /// Tells the cluster why an image cannot be fetched, or that it can again.
    fn note(&self, reference: &ImageReference, noted: Option<&str>, error: Option<&PullError>) {
        let error = error.map(|error| one_line(error).chars().take(ERROR_CHARS_MAX).collect::<String>());
        if error.as_deref() == noted {
            return;
        }
        self.parts.recorder.record(Command::NoteDesired(NoteDesired {
            reference: reference.clone(),
            complete: false,
            error,
        }));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    #[test]
    fn what_an_image_needs_next() {
        let unknown = Resolved::default();
        let known = Resolved {
            to_fill: Some(digest("a")),
            ..Resolved::default()
        };
        let assessed = |missing: &[&str], is_whole| Assessed {
            known: vec![digest("a")],
            missing: missing.iter().map(|text| digest(text)).collect(),
            is_whole,
            ..Assessed::default()
        };
        let table = [
            (&unknown, assessed(&[], false), Step::AskTag),
            (&known, assessed(&["b"], false), Step::Fetch(vec![digest("b")])),
            (&known, assessed(&[], false), Step::Complete(vec![digest("a")], None)),
            (&known, assessed(&[], true), Step::Rest),
        ];
        for (resolved, assessed, expected) in table {
            assert_eq!(step(resolved, &assessed), expected);
        }
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        assert_eq!(pause(1, 1.0), PAUSE_MIN);
        assert_eq!(pause(1, 0.0), PAUSE_MIN / 2);
        assert_eq!(pause(3, 1.0), PAUSE_MIN * 4);
        assert_eq!(pause(u32::MAX, 1.0), PAUSE_MAX);
    }
}
