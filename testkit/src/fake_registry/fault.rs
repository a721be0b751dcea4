//! How a fake registry misbehaves, and on which requests.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use oci::{Digest, ManifestReference, RepositoryName};
use tokio_util::sync::CancellationToken;

use super::requests::{Route, Seen};

/// Which requests: all that fit every condition.
#[derive(Debug, Clone)]
pub struct On {
    pattern: Pattern,
    method: Option<Method>,
    repository: Option<RepositoryName>,
    times: u64,
}

#[derive(Debug, Clone)]
enum Pattern {
    Everything,
    Manifests,
    Blobs,
    One(Route),
    /// A blob, directly or where a redirect led.
    Blob(Digest),
}

impl On {
    fn pattern(pattern: Pattern) -> Self {
        Self {
            pattern,
            method: None,
            repository: None,
            times: u64::MAX,
        }
    }

    /// Every request.
    pub fn everything() -> Self {
        Self::pattern(Pattern::Everything)
    }

    /// Every manifest.
    pub fn manifests() -> Self {
        Self::pattern(Pattern::Manifests)
    }

    /// The manifest asked for by this tag or digest.
    pub fn manifest(reference: &str) -> Self {
        let reference: ManifestReference = reference.parse().expect("a tag or digest");
        Self::route(Route::Manifest(reference))
    }

    /// Every blob, directly or where a redirect led.
    pub fn blobs() -> Self {
        Self::pattern(Pattern::Blobs)
    }

    /// This blob, directly or where a redirect led.
    pub fn blob(digest: &Digest) -> Self {
        Self::pattern(Pattern::Blob(digest.clone()))
    }

    /// The token endpoint.
    pub fn token() -> Self {
        Self::route(Route::Token)
    }

    /// Exactly this route.
    pub fn route(route: Route) -> Self {
        Self::pattern(Pattern::One(route))
    }

    /// Only with this method.
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Only for this repository.
    pub fn repository(mut self, repository: &str) -> Self {
        self.repository = Some(repository.parse().expect("a repository name"));
        self
    }

    /// Only the first so many requests that fit. Means something for faults alone.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    pub(super) fn fits(&self, seen: &Seen) -> bool {
        let route = match (&self.pattern, &seen.route) {
            (Pattern::Everything, _) => true,
            (Pattern::Manifests, route) => matches!(route, Route::Manifest(_)),
            (Pattern::Blobs, route) => matches!(route, Route::Blob(_) | Route::Content(_)),
            (Pattern::Blob(wanted), Route::Blob(digest) | Route::Content(digest)) => wanted == digest,
            (Pattern::Blob(_), _) => false,
            (Pattern::One(wanted), route) => wanted == route,
        };
        route
            && self.method.as_ref().is_none_or(|method| *method == seen.method)
            && self
                .repository
                .as_ref()
                .is_none_or(|repository| seen.repository.as_ref() == Some(repository))
    }
}

/// Where in an answer something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the answer's head.
    Headers,
    /// After the head, before the body.
    FirstByte,
    /// After so many bytes of the body.
    Body {
        /// Counted in this answer, which may be a range.
        after_bytes: u64,
    },
}

/// A way to misbehave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Says nothing more from there on, until the fault is lifted, and then goes on.
    Hang(Stage),
    /// Says nothing for so long from there on, and then goes on.
    Pause(Stage, Duration),
    /// Resets the connection there.
    Reset(Stage),
    /// Closes the connection after so many bytes of the body.
    Truncate {
        /// Counted in this answer, which may be a range.
        after_bytes: u64,
    },
    /// Announces a length that is off by so many bytes. The body is cut there if shorter, else ends too early.
    LieLength {
        /// Added to the true length.
        delta: i64,
    },
    /// Inverts one byte of the body.
    FlipByte {
        /// Counted in this answer, which may be a range.
        at: u64,
    },
    /// Answers this status with an error document instead.
    Status(u16),
    /// Answers this status with these headers instead, `("retry-after", "2")` for example.
    StatusWith(u16, Vec<(&'static str, String)>),
    /// Answers 401 with the challenge of the registry's authentication, or a Basic one if it has none.
    Challenge,
    /// Sends at most so many bytes a second of each answer.
    Rate {
        /// More than zero.
        bytes_per_second: u64,
    },
    /// Leaves these headers out of the answer.
    OmitHeaders(Vec<&'static str>),
}

#[derive(Debug)]
pub(super) struct Planned {
    on: On,
    pub(super) fault: Fault,
    pub(super) lifted: CancellationToken,
    left: AtomicU64,
    hits: AtomicUsize,
}

/// A fault in force. Dropping the handle leaves it in force.
#[derive(Debug, Clone)]
pub struct FaultHandle(Arc<Planned>);

impl FaultHandle {
    /// Ends the fault; answers that hang go on.
    pub fn lift(&self) {
        self.0.lifted.cancel();
    }

    /// How many requests met it.
    pub fn hits(&self) -> usize {
        self.0.hits.load(Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct FaultPlan {
    planned: Mutex<Vec<Arc<Planned>>>,
}

impl FaultPlan {
    pub(super) fn add(&self, on: On, fault: Fault) -> FaultHandle {
        let left = AtomicU64::new(on.times);
        let planned = Planned {
            on,
            fault,
            lifted: CancellationToken::new(),
            left,
            hits: AtomicUsize::new(0),
        };
        let planned = Arc::new(planned);
        self.lock().push(Arc::clone(&planned));
        FaultHandle(planned)
    }

    /// The newest fault in force for this request, which now met it.
    pub(super) fn pick(&self, seen: &Seen) -> Option<Arc<Planned>> {
        let mut all = self.lock();
        all.retain(|planned| !planned.lifted.is_cancelled());
        let found = all
            .iter()
            .rev()
            .find(|planned| planned.on.fits(seen) && planned.left.load(Relaxed) > 0)?;
        found.left.fetch_sub(1, Relaxed);
        found.hits.fetch_add(1, Relaxed);
        Some(Arc::clone(found))
    }

    pub(super) fn lift_all(&self) {
        self.lock().drain(..).for_each(|planned| planned.lifted.cancel());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Planned>>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
