//! The bytes of one blob on their way to a client, whoever supplies them.
//!
//! Guarantees: a supplier that dies under the body is replaced, and the client sees the same bytes without a gap; a
//! whole body ends cleanly only if its length and its proof are right, else it is cut short. A supplier that failed is
//! asked again only after bytes have moved, so a body ends once nobody moves it, and it is opened anew at most
//! [`RESUMES_MAX`] times. Frames pass through uncopied.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use distribution::Source;
use futures::StreamExt;
use futures::future::ready;
use oci::ByteRange;
use tokio::time::{Instant, timeout_at};

use super::Pull;
use super::intake::{Ended, Intake, Joined, Taken};
use super::policy::{Failure, Refusal};
use super::proof::Standard;
use super::search::Search;
use crate::metrics::BodyEnd;
use crate::supply::{BlobAsk, Frames, OpenBlob, Supplier, Supply};

/// Changes of supplier within one body. A tier that restarts node by node under a 20 GB layer needs a handful.
pub(crate) const RESUMES_MAX: u32 = 32;
/// Without a byte for this long a supplier that breaks off did so because its source is silent, as every other one's
/// would be: a node gives a source up after 30 s.
const SILENCE_MAX: Duration = Duration::from_secs(28);

/// A blob that was found, and from then on its body.
pub(crate) struct Body<S: Supply> {
    pull: Arc<Pull<S>>,
    ask: BlobAsk,
    search: Search,
    supplier: Supplier,
    /// `None` if what was opened is not what the client then chose.
    frames: Option<Frames>,
    standard: Standard,
    intake: Intake,
    /// Bytes came since this supplier was opened.
    moved: bool,
    /// When the first of them must have come.
    first_bytes_by: Option<Instant>,
    /// Time spent waiting for bytes since the last ones came.
    silent_for: Duration,
    resumes: u32,
    /// Not yet counted in the metrics.
    n_bytes_sent: u64,
    end: BodyEnd,
}

impl<S: Supply> Body<S> {
    pub(super) fn new(pull: Arc<Pull<S>>, ask: BlobAsk, search: Search, supplier: Supplier, opened: OpenBlob) -> Self {
        let standard = Standard {
            trusted: pull.supply.trusts(supplier),
            source: opened.source,
        };
        Self {
            intake: Intake::new(ask.digest.clone(), opened.size, opened.start),
            first_bytes_by: search.first_bytes_deadline(supplier),
            pull,
            ask,
            search,
            supplier,
            frames: Some(opened.frames),
            standard,
            moved: false,
            silent_for: Duration::ZERO,
            resumes: 0,
            n_bytes_sent: 0,
            end: BodyEnd::Dropped,
        }
    }

    /// Chooses what the client gets: a part within the length that was announced, or everything. Once, and first.
    pub(crate) fn select(&mut self, range: Option<ByteRange>) {
        if !self.intake.select(range, self.standard) {
            self.frames = None;
        }
    }

    /// The next bytes; `None` after the last. After an error the body is over.
    ///
    /// # Errors
    /// The refusal to answer with, if no byte was given out yet; else the sign to cut the connection.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        if self.end == BodyEnd::Whole {
            return Ok(None);
        }
        let next = self.advance().await;
        match &next {
            Ok(Some(bytes)) => self.n_bytes_sent += bytes.len() as u64,
            Ok(None) => self.end = BodyEnd::Whole,
            Err(_) => self.end = BodyEnd::Cut,
        }
        if next.is_ok() && self.intake.is_complete() {
            self.end = BodyEnd::Whole;
        }
        next
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, Refusal> {
        if self.frames.is_none() {
            self.open().await?;
        }
        loop {
            let asked = Instant::now();
            let frame = self.frame().await?;
            self.silent_for += asked.elapsed();
            let failure = match frame {
                Ok(Some(frame)) if frame.is_empty() => continue,
                Ok(Some(frame)) => match self.take(frame) {
                    Taken::Out(bytes) => return Ok(Some(bytes)),
                    Taken::Nothing => continue,
                    Taken::Wrong => Failure::Wrong,
                },
                Ok(None) => match self.intake.ended() {
                    Ended::Whole(last) => return Ok(last),
                    Ended::Short => Failure::Unreachable,
                    Ended::Wrong => Failure::Wrong,
                },
                Err(failure) => failure,
            };
            self.go_on_elsewhere(failure).await?;
        }
    }

    /// One frame of the supplier, in time for a client that has a next host and nothing yet.
    async fn frame(&mut self) -> Result<Result<Option<Bytes>, Failure>, Refusal> {
        let Some(frames) = &mut self.frames else {
            return Ok(Ok(None));
        };
        let frame = match (self.search.deadline(), self.first_bytes_by) {
            (Some(deadline), _) => timeout_at(deadline, frames.next())
                .await
                .map_err(|_| Refusal::TimedOut)?,
            (None, Some(deadline)) => timeout_at(deadline, frames.next())
                .await
                .unwrap_or(Some(Err(Failure::SourceSilent))),
            (None, None) => frames.next().await,
        };
        Ok(frame.transpose())
    }

    fn take(&mut self, frame: Bytes) -> Taken {
        self.moved = true;
        self.first_bytes_by = None;
        self.silent_for = Duration::ZERO;
        self.search.drop_limit();
        self.intake.take(frame)
    }

    async fn go_on_elsewhere(&mut self, failure: Failure) -> Result<(), Refusal> {
        let failure = match failure {
            Failure::Unreachable | Failure::Unable if self.silent_for >= SILENCE_MAX => Failure::SourceSilent,
            failure => failure,
        };
        tracing::debug!(supplier = ?self.supplier, ?failure, received = self.intake.received(), "body broke off");
        let standing = &self.pull.standing;
        standing.failed(self.supplier, self.search.host(), failure, Instant::now());
        self.resumes += 1;
        let spoiled = failure == Failure::Wrong && self.intake.has_given();
        if self.resumes > RESUMES_MAX || spoiled {
            tracing::warn!(digest = %self.ask.digest, supplier = ?self.supplier, ?failure, "body cut short");
            return Err(Refusal::Unavailable);
        }
        let moved = std::mem::take(&mut self.moved);
        if moved {
            self.search.forgive(standing);
        }
        match failure {
            Failure::Unreachable | Failure::Unable if moved => self.search.suspect(self.supplier),
            _ => self.search.failed(self.supplier, self.not_final(failure)),
        }
        if failure == Failure::Wrong {
            self.intake.forget();
        }
        self.open().await
    }

    async fn open(&mut self) -> Result<(), Refusal> {
        let pull = Arc::clone(&self.pull);
        // Hoped of each supplier until one says otherwise; then asked again, for everything.
        let mut hoped = Source::Local;
        loop {
            let (ask, intake) = (&self.ask, &self.intake);
            let standard = |supplier, source| Standard {
                trusted: pull.supply.trusts(supplier),
                source,
            };
            let open_at = |supplier| match intake.part_from(standard(supplier, hoped)) {
                Some(part) => pull.supply.blob(supplier, ask, part),
                None => Box::pin(ready(Err(Failure::Forbidden))),
            };
            let (supplier, opened) = pull.find(&mut self.search, &open_at).await?;
            let standard = standard(supplier, opened.source);
            match self.intake.join(&opened, standard) {
                Joined::Fits => {
                    self.adopt(supplier, standard, opened.frames);
                    return Ok(());
                }
                Joined::FromStartOnly if hoped == Source::Local => hoped = Source::Upstream,
                Joined::FromStartOnly | Joined::Misfit => {
                    pull.standing
                        .failed(supplier, self.search.host(), Failure::Wrong, Instant::now());
                    self.search.failed(supplier, Failure::Wrong);
                }
            }
        }
    }

    fn adopt(&mut self, supplier: Supplier, standard: Standard, frames: Frames) {
        self.pull.metrics.resumed(supplier);
        self.flush_count();
        self.supplier = supplier;
        self.first_bytes_by = self.search.first_bytes_deadline(supplier);
        self.standard = standard;
        self.frames = Some(frames);
    }

    /// Once bytes went out, the blob exists, whatever a supplier now says.
    fn not_final(&self, failure: Failure) -> Failure {
        if failure == Failure::Absent && self.intake.has_given() {
            Failure::Missing
        } else {
            failure
        }
    }

    fn flush_count(&mut self) {
        self.pull
            .metrics
            .sent(self.supplier, std::mem::take(&mut self.n_bytes_sent));
    }
}

impl<S: Supply> Drop for Body<S> {
    fn drop(&mut self) {
        self.flush_count();
        self.pull.metrics.ended(self.end);
    }
}
