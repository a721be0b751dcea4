//! May a namespace's pod pull an image through the cache?
//!
//! A repository that is known to be public is, one that is private only with a grant, and of one that was never heard
//! of the source is asked without credentials. What a configured credential covers is open to everyone: whoever
//! configured it for the whole tier said so.

use std::sync::Arc;
use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use futures::{StreamExt, stream};
use meta::{Command, KnowHosts, Read, ReadError, Visibility, view};
use oci::{ImageReference, ManifestReference, Repository, SourceHost};
use raft::MetaHandle;
use tokio::time::timeout;
use upstream::{Identity, Patience, RegistryClient, RetryPolicy, UpstreamError};

use crate::coalesce::Coalescer;
use crate::recorder::Recorder;
use crate::sources::Sources;
use crate::whole;

/// How long a source may take: whoever asks waits for a second and a bit.
const PATIENCE: Duration = Duration::from_millis(900);
/// How long an answer of a source serves others who ask for the same image.
const ANSWER_KEPT_FOR: Duration = Duration::from_secs(2);
/// Sources asked at once for one pod.
const AT_ONCE: usize = 16;
/// Images asked about at once or kept.
const QUESTIONS_MAX: usize = 4096;

/// What is answered for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may be pulled through the cache.
    Admitted,
    /// It is private, and the namespace has no grant.
    NoGrant,
    /// Its source wants credentials, and nobody has a grant.
    NeedsCredentials,
    /// Its source cannot be asked, and nothing is cached.
    SourceUnreachable,
    /// Its source has no such image, and nothing is cached.
    NotFound,
}

/// What is known without asking anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Public,
    Granted,
    Private,
    Nothing,
}

/// What the source says to somebody without credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    There,
    Denied,
    NotThere,
    Silence,
}

/// Decides who may pull what.
pub struct Admissions {
    ledger: MetaHandle,
    sources: Arc<Sources>,
    client: RegistryClient,
    recorder: Recorder,
    heard: Coalescer<(Repository, ManifestReference), Heard>,
}

impl Admissions {
    /// Decides from `ledger`, else by asking `sources`; questions run in `tasks`.
    pub fn new(ledger: MetaHandle, sources: Arc<Sources>, recorder: Recorder, tasks: &TaskSet) -> Self {
        let patience = Patience {
            headers: PATIENCE,
            no_progress: PATIENCE,
            retry: RetryPolicy::NEVER,
        };
        let client = sources.client().with_patience(patience);
        Self {
            ledger,
            sources,
            client,
            recorder,
            heard: Coalescer::new("admission", tasks.clone(), QUESTIONS_MAX),
        }
    }

    /// Decides for each image, in their order.
    ///
    /// # Errors
    /// [`ReadError`] if the state cannot be read.
    pub async fn admit(&self, namespace: &str, images: &[ImageReference]) -> Result<Vec<Admission>, ReadError> {
        self.know_hosts(images)?;
        let decisions: Vec<_> = images.iter().map(|image| self.admit_one(namespace, image)).collect();
        let decisions: Vec<_> = stream::iter(decisions).buffered(AT_ONCE).collect().await;
        decisions.into_iter().collect()
    }

    async fn admit_one(&self, namespace: &str, image: &ImageReference) -> Result<Admission, ReadError> {
        let known = self.known(namespace, &image.repository)?;
        let heard = match known {
            Known::Nothing => self.ask(&image.repository, &image.manifest()).await,
            _ => Heard::Silence,
        };
        let is_cached = is_cached(&self.ledger.local(), image)?;
        Ok(decide(known, heard, is_cached))
    }

    fn known(&self, namespace: &str, repository: &Repository) -> Result<Known, ReadError> {
        let state = self.ledger.local();
        Ok(match view::visibility(&state, repository)? {
            Some(Visibility::Public { .. }) => Known::Public,
            Some(Visibility::Private { .. }) if view::grant(&state, repository, namespace)?.is_some() => Known::Granted,
            Some(Visibility::Private { .. }) => Known::Private,
            None => Known::Nothing,
        })
    }

    async fn ask(&self, repository: &Repository, reference: &ManifestReference) -> Heard {
        if self.sources.is_down(&repository.host) {
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

    /// The proxy asks right after admission, and then `host-port` in its path has to be understood.
    fn know_hosts(&self, images: &[ImageReference]) -> Result<(), ReadError> {
        let state = self.ledger.local();
        let mut hosts: Vec<SourceHost> = Vec::new();
        for host in images.iter().map(|image| &image.repository.host) {
            if host.port().is_some() && !hosts.contains(host) && !view::is_known_host(&state, host)? {
                hosts.push(host.clone());
            }
        }
        if !hosts.is_empty() {
            self.recorder.record(Command::KnowHosts(KnowHosts { hosts }));
        }
        Ok(())
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

fn decide(known: Known, heard: Heard, is_cached: bool) -> Admission {
    match (known, heard) {
        (Known::Public | Known::Granted, _) => Admission::Admitted,
        (Known::Private, _) => Admission::NoGrant,
        (Known::Nothing, Heard::There) => Admission::Admitted,
        (Known::Nothing, Heard::Denied) => Admission::NeedsCredentials,
        (Known::Nothing, Heard::Silence | Heard::NotThere) if is_cached => Admission::Admitted,
        (Known::Nothing, Heard::NotThere) => Admission::NotFound,
        (Known::Nothing, Heard::Silence) => Admission::SourceUnreachable,
    }
}

fn heard_of(error: &UpstreamError) -> Heard {
    match error {
        UpstreamError::NotFound { .. } => Heard::NotThere,
        UpstreamError::Denied { .. } => Heard::Denied,
        _ => Heard::Silence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_admitted() {
        use Admission::{Admitted, NeedsCredentials, NoGrant, NotFound, SourceUnreachable};
        let table = [
            (Known::Public, Heard::Silence, false, Admitted),
            (Known::Granted, Heard::Silence, false, Admitted),
            (Known::Private, Heard::Silence, true, NoGrant),
            (Known::Private, Heard::There, true, NoGrant),
            (Known::Nothing, Heard::There, false, Admitted),
            (Known::Nothing, Heard::Denied, false, NeedsCredentials),
            (Known::Nothing, Heard::Denied, true, NeedsCredentials),
            (Known::Nothing, Heard::NotThere, false, NotFound),
            (Known::Nothing, Heard::NotThere, true, Admitted),
            (Known::Nothing, Heard::Silence, false, SourceUnreachable),
            (Known::Nothing, Heard::Silence, true, Admitted),
        ];
        for (known, heard, is_cached, expected) in table {
            assert_eq!(
                decide(known, heard, is_cached),
                expected,
                "{known:?} {heard:?} {is_cached}"
            );
        }
    }
}
