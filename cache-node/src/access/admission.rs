//! May a namespace's pod pull an image through the cache?
//!
//! A repository that is known to be public is, one that is private only with a grant, and of one that was never heard
//! of the source is asked without credentials. What a configured credential covers is open to everyone: whoever
//! configured it for the whole tier said so. Nothing is admitted that would not be served a moment later.

mod decision;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use futures::{StreamExt, stream};
use meta::{Command, KnowHosts, Read, ReadError, SetVisibility, Visibility, view};
use oci::{ImageReference, ManifestReference, Repository, SourceHost};
use raft::MetaHandle;
use tokio::time::{Instant, timeout, timeout_at};
use upstream::{Identity, Patience, RegistryClient, RetryPolicy, UpstreamError};

use super::keys::KeyRing;
use super::liveness::Liveness;
use crate::coalesce::Coalescer;
use crate::recorder::Recorder;
use crate::sources::Sources;
use crate::whole;
pub use decision::{Admission, Missing};
use decision::{Facts, Heard, Known};

/// How long a source may take: whoever asks waits for a second and a bit.
const PATIENCE: Duration = Duration::from_millis(900);
/// How long an answer of a source serves others who ask for the same image.
const ANSWER_KEPT_FOR: Duration = Duration::from_secs(2);
/// Sources asked at once for one pod.
const AT_ONCE: usize = 16;
/// Images asked about at once or kept.
const QUESTIONS_MAX: usize = 4096;
/// How long a host may take to be recorded: one commit, unless there is no quorum.
const RECORDED_WITHIN: Duration = Duration::from_millis(700);
/// Grants of one repository whose credentials are looked at for one that can be opened.
const GRANTS_MAX: usize = 256;

/// Decides who may pull what.
pub struct Admissions {
    parts: AdmissionParts,
    client: RegistryClient,
    heard: Coalescer<(Repository, ManifestReference), Heard>,
}

/// What [`Admissions`] works with.
pub struct AdmissionParts {
    /// The replicated state.
    pub ledger: MetaHandle,
    /// Asked where the state says nothing.
    pub sources: Arc<Sources>,
    /// Takes what is learned.
    pub recorder: Recorder,
    /// Opens what was granted.
    pub keys: Arc<KeyRing>,
    /// Whether nodes are placed; nothing where it is not enforced who is served.
    pub liveness: Option<Arc<Liveness>>,
    /// Hosts with a port that every node knows by its configuration.
    pub configured_hosts: BTreeSet<SourceHost>,
}

impl Admissions {
    /// Decides from `parts`; questions to sources run in `tasks`.
    pub fn new(parts: AdmissionParts, tasks: &TaskSet) -> Self {
        let patience = Patience {
            headers: PATIENCE,
            no_progress: PATIENCE,
            retry: RetryPolicy::NEVER,
        };
        let client = parts.sources.client().with_patience(patience);
        let heard = Coalescer::new("admission", tasks.clone(), QUESTIONS_MAX);
        Self { parts, client, heard }
    }

    /// Decides for each image, in their order.
    ///
    /// # Errors
    /// [`ReadError`] if the state cannot be read.
    pub async fn admit(&self, namespace: &str, images: &[ImageReference]) -> Result<Vec<Admission>, ReadError> {
        let decisions = async {
            let decisions: Vec<_> = images.iter().map(|image| self.admit_one(namespace, image)).collect();
            stream::iter(decisions).buffered(AT_ONCE).collect::<Vec<_>>().await
        };
        let (decisions, recorded) = tokio::join!(decisions, self.record_hosts(images));
        recorded?;
        let state = self.parts.ledger.local();
        let both = decisions.into_iter().zip(images);
        both.map(|(decision, image)| {
            let is_read = self.is_readable_host(&state, &image.repository.host)?;
            Ok(decision?.where_host_is_read(is_read))
        })
        .collect()
    }

    async fn admit_one(&self, namespace: &str, image: &ImageReference) -> Result<Admission, ReadError> {
        let facts = Facts {
            known: self.known(namespace, &image.repository)?,
            is_cached: is_cached(&self.parts.ledger.local(), image)?,
            is_placed_soon: self.parts.liveness.as_ref().is_none_or(|liveness| liveness.is_heard()),
        };
        let heard = match facts.need_the_source() {
            true => self.ask(facts.known, &image.repository, &image.manifest()).await,
            false => Heard::Silence,
        };
        if facts.known == Known::Private && heard == Heard::There {
            let repository = image.repository.clone();
            let public = true;
            self.parts
                .recorder
                .record(Command::SetVisibility(SetVisibility { repository, public }));
        }
        Ok(facts.decide(heard))
    }

    fn known(&self, namespace: &str, repository: &Repository) -> Result<Known, ReadError> {
        let state = self.parts.ledger.local();
        Ok(match view::visibility(&state, repository)? {
            Some(Visibility::Public { .. }) => Known::Public,
            Some(Visibility::Private { .. }) if view::grant(&state, repository, namespace)?.is_none() => Known::Private,
            Some(Visibility::Private { .. }) if self.can_open_any(&state, repository)? => Known::Granted,
            Some(Visibility::Private { .. }) => Known::Locked,
            None => Known::Nothing,
        })
    }

    /// Whether the source can be asked with some credential of `repository`, whichever namespace showed it.
    fn can_open_any(&self, state: &impl Read, repository: &Repository) -> Result<bool, ReadError> {
        let mut looked_at = BTreeSet::new();
        for grant in view::grants_of(state, repository, GRANTS_MAX)? {
            let id = grant.record.credential;
            if looked_at.insert(id)
                && view::credential(state, id)?.is_some_and(|stored| self.parts.keys.opens(id, &stored))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn ask(&self, known: Known, repository: &Repository, reference: &ManifestReference) -> Heard {
        // Of what is granted it matters whether the source is away at this moment.
        let is_granted = matches!(known, Known::Granted | Known::Locked);
        if !is_granted && self.parts.sources.is_down(&repository.host) {
            return Heard::Silence;
        }
        let identity = match self.client.has_configured_credential(repository) {
            true => Identity::Known,
            false => Identity::Anonymous,
        };
        let client = self.client.with_identity(identity);
        let key = (repository.clone(), reference.clone());
        let question = {
            let (repository, reference) = key.clone();
            async move {
                match client.head_manifest(&repository, &reference).await {
                    Ok(_) => Heard::There,
                    Err(error) => {
                        tracing::debug!(%repository, %reference, error = one_line(&error), "asked for admission");
                        heard_of(&error)
                    }
                }
            }
        };
        let keep = |heard: &Heard| match heard {
            Heard::Silence => Duration::ZERO,
            _ => ANSWER_KEPT_FOR,
        };
        let answer = timeout(PATIENCE, self.heard.get(key, question, keep)).await;
        answer.ok().flatten().unwrap_or(Heard::Silence)
    }

    /// Has hosts with a port recorded, and waits until this node has applied that: the proxy asks right after admission,
    /// and then `host-port` in its path has to be understood.
    async fn record_hosts(&self, images: &[ImageReference]) -> Result<(), ReadError> {
        let mut hosts = self.unreadable_hosts(images.iter().map(|image| &image.repository.host).cloned())?;
        if hosts.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + RECORDED_WITHIN;
        let mut applied = self.parts.ledger.applied();
        let known = KnowHosts {
            hosts: hosts.iter().cloned().collect(),
        };
        self.parts.recorder.record(Command::KnowHosts(known));
        while !hosts.is_empty() && matches!(timeout_at(deadline, applied.changed()).await, Ok(Ok(()))) {
            hosts = self.unreadable_hosts(hosts.into_iter())?;
        }
        Ok(())
    }

    fn unreadable_hosts(&self, hosts: impl Iterator<Item = SourceHost>) -> Result<BTreeSet<SourceHost>, ReadError> {
        let state = self.parts.ledger.local();
        let unreadable = hosts.map(|host| Ok((!self.is_readable_host(&state, &host)?).then_some(host)));
        unreadable.filter_map(Result::transpose).collect()
    }

    fn is_readable_host(&self, state: &impl Read, host: &SourceHost) -> Result<bool, ReadError> {
        Ok(host.port().is_none() || self.parts.configured_hosts.contains(host) || view::is_known_host(state, host)?)
    }
}

/// Whether something can be served for an image without its source.
///
/// # Errors
/// [`ReadError`] if the state cannot be read.
fn is_cached(state: &impl Read, image: &ImageReference) -> Result<bool, ReadError> {
    let Some(id) = view::repository_id(state, &image.repository)? else {
        return Ok(false);
    };
    let digest = match image.manifest() {
        ManifestReference::Digest(digest) => Some(digest).filter(|digest| {
            // Another repository's content is none of this one's.
            view::is_linked(state, id, digest).unwrap_or(false)
        }),
        ManifestReference::Tag(tag) => match view::tag(state, id, &tag)? {
            Some(record) => whole::newest(state, &record)?,
            None => None,
        },
    };
    match digest {
        Some(digest) => whole::is_whole(state, &digest),
        None => Ok(false),
    }
}

fn heard_of(error: &UpstreamError) -> Heard {
    match error {
        UpstreamError::NotFound { .. } => Heard::NotThere,
        UpstreamError::Denied { .. } => Heard::Denied,
        UpstreamError::RateLimited { .. } => Heard::Busy,
        _ => Heard::Silence,
    }
}
