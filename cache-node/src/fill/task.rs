//! The course of one fill, from the first source to the committed blob.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};

use super::error::FillError;
use super::feed::Feed;
use super::flight::{Flight, Room};
use super::intake::{Intake, Taken};
use super::plans::Plans;
use super::source::{Source, SourceError, SourceFailure};
use super::{Filled, Shared};
use crate::blob_store::{BlobKey, BlobReader, BlobStat, VerifiedBlob, WriteError};

/// Longest wait for the store to take a new blob; a disk that hangs must not hang a pull.
const BEGIN_WRITE_DEADLINE: Duration = Duration::from_secs(2);

/// The task of one flight.
pub(super) struct FillTask {
    shared: Arc<Shared>,
    flight: Arc<Flight>,
}

/// Makes sure that a flight ends for its readers and leaves the map, even if its task is dropped or panics.
struct Landing {
    shared: Arc<Shared>,
    flight: Arc<Flight>,
    landed: bool,
}

/// How a fill ended well.
enum Done {
    Committed(BlobStat),
    /// It was in the store already, or could not be stored.
    Streamed,
}

impl FillTask {
    pub(super) fn new(shared: Arc<Shared>, flight: Arc<Flight>) -> Self {
        Self { shared, flight }
    }

    /// Runs the fill to its end. `_slot` counts it as long as it fetches.
    pub(super) async fn run(self, slot: OwnedSemaphorePermit) {
        let mut landing = Landing {
            shared: Arc::clone(&self.shared),
            flight: Arc::clone(&self.flight),
            landed: false,
        };
        let mut plans = Plans::of(&self.flight);
        let stopped = stopped_and_deserted(Arc::clone(&self.shared), Arc::clone(&self.flight));
        let result = tokio::select! {
            result = self.fill(&mut plans) => result,
            () = stopped => Err(FillError::Stopped),
        };
        drop(slot);
        match result {
            Ok(done) => {
                landing.land(Ok(()));
                self.report(done, plans.origin()).await;
            }
            Err(error) => {
                tracing::debug!(digest = %self.flight.digest, error = &error as &dyn std::error::Error, "fill failed");
                let remember = error.is_not_found() && self.shared.can_remember_more();
                if !remember {
                    self.shared.forget(&self.flight);
                }
                self.flight.failed(error);
                if remember {
                    sleep(self.shared.limits.not_found_kept_for).await;
                }
                landing.land(Ok(()));
            }
        }
    }

    async fn report(self, done: Done, origin: String) {
        let Done::Committed(blob) = done else {
            return;
        };
        let filled = Filled {
            blob,
            source: self.flight.status().source,
            origin,
        };
        self.shared.sink.committed(filled).await;
    }

    async fn fill(&self, plans: &mut Plans) -> Result<Done, FillError> {
        // Between the caller's look into the store and this fill another one may have ended.
        if let Some(stored) = self.already_stored().await {
            self.flight.present(stored);
            return Ok(Done::Streamed);
        }
        let verified = self.fetch(plans).await?;
        self.flight.verified();
        let Some(verified) = verified else {
            return Ok(Done::Streamed);
        };
        match verified.commit().await {
            Ok(blob) => {
                self.flight.committed();
                Ok(Done::Committed(blob))
            }
            Err(error) => {
                self.warn_not_stored(&error);
                Ok(Done::Streamed)
            }
        }
    }

    async fn already_stored(&self) -> Option<Arc<dyn BlobReader>> {
        let found = self.shared.store.find(&self.flight.digest).await.ok()??;
        // A copy that turns out bad is set aside by the store, and fetched again here.
        let reader = self.shared.store.open(&found.key).await.ok()?;
        Some(Arc::from(reader))
    }

    /// Goes from source to source until all bytes are there and right.
    async fn fetch(&self, plans: &mut Plans) -> Result<Option<Box<dyn VerifiedBlob>>, FillError> {
        let mut source = plans.next(None)?;
        let mut intake = self.begin().await?;
        let mut silent_for = Duration::ZERO;
        loop {
            let label = source.label();
            self.flight.source_is(&label);
            let error = match self.drain(&*source, &mut intake, &mut silent_for).await? {
                Ok(()) => match intake.verify() {
                    Ok(verified) => return Ok(verified),
                    Err(error) if !self.flight.restart() => return Err(error),
                    Err(error) => {
                        intake = self.begin().await?;
                        SourceError::Corrupt { why: describe(&error) }
                    }
                },
                Err(error) => error,
            };
            tracing::debug!(digest = %self.flight.digest, source = label, %error, "source of a fill failed");
            source = plans.next(Some(&SourceFailure {
                label,
                received_bytes: self.flight.received_bytes(),
                silent_for,
                error,
            }))?;
        }
    }

    async fn begin(&self) -> Result<Intake, FillError> {
        let key = BlobKey {
            digest: self.flight.digest.clone(),
            generation: self.shared.generations.next(),
        };
        let verifier = key.digest.verifier().map_err(FillError::Unsupported)?;
        let begin = self.shared.store.begin_write(&key, self.flight.total());
        let begun = timeout(BEGIN_WRITE_DEADLINE, begin)
            .await
            .unwrap_or(Err(WriteError::Busy));
        match begun {
            Ok(writer) => {
                self.flight.stored_is(Some(writer.partial()));
                Ok(Intake::Storing(writer))
            }
            Err(error) => {
                self.warn_not_stored(&error);
                self.flight.stored_is(None);
                Ok(Intake::Hashing(Box::new(verifier)))
            }
        }
    }

    /// Takes what one source gives. The inner error is the source's, and the next one may do better.
    async fn drain(
        &self,
        source: &dyn Source,
        intake: &mut Intake,
        silent_for: &mut Duration,
    ) -> Result<Result<(), SourceError>, FillError> {
        let flight = &self.flight;
        let asked = Instant::now();
        let opened = Feed::open(source, flight.received_bytes(), self.shared.limits.no_progress).await;
        *silent_for += asked.elapsed();
        let mut feed = match opened {
            Ok(feed) => feed,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.agree_on_length(feed.total) {
            return Ok(Err(error));
        }
        loop {
            let (received, total) = (flight.received_bytes(), flight.total());
            if total == Some(received) {
                return Ok(Ok(()));
            }
            // Waiting for readers is no silence of the source, so only this counts.
            let asked = Instant::now();
            let batch = feed.next_batch().await;
            *silent_for += asked.elapsed();
            let batch = match batch {
                Ok(batch) if batch.is_empty() => return Ok(self.ended_at(received, total)),
                Ok(batch) => batch,
                Err(error) => return Ok(Err(error)),
            };
            *silent_for = Duration::ZERO;
            // More than was announced never reaches anyone; the digest decides about the rest.
            let batch = cut(batch, total.map_or(u64::MAX, |total| total - received));
            flight.receive(&batch);
            self.take_in(intake, batch).await?;
        }
    }

    fn agree_on_length(&self, says: Option<u64>) -> Result<(), SourceError> {
        let Some(says) = says else {
            return Ok(());
        };
        let expected = self.flight.total().unwrap_or(says);
        let received = self.flight.received_bytes();
        if says != expected || says < received {
            let why = format!("it says {says} bytes, expected {}", expected.max(received));
            return Err(SourceError::Corrupt { why });
        }
        self.flight.total_is(says);
        Ok(())
    }

    fn ended_at(&self, received: u64, total: Option<u64>) -> Result<(), SourceError> {
        match total {
            None => Ok(()),
            Some(total) => Err(SourceError::Unavailable {
                why: format!("it ended after {received} of {total} bytes"),
                after: None,
            }),
        }
    }

    async fn take_in(&self, intake: &mut Intake, batch: Vec<Bytes>) -> Result<(), FillError> {
        match intake.append(batch).await {
            Taken::Stored => self.flight.trim(),
            Taken::Hashed => self.wait_for_room().await?,
            Taken::StoppedStoring(error) => {
                self.warn_not_stored(&error);
                self.flight.stopped_storing();
                self.wait_for_room().await?;
            }
            Taken::Ended => return Err(FillError::Stopped),
        }
        Ok(())
    }

    /// Without a store readers set the pace: the slowest one, but not for ever, and nobody reading is the end.
    async fn wait_for_room(&self) -> Result<(), FillError> {
        let mut readers = self.flight.reader_changes();
        let limit = sleep(self.shared.limits.slow_reader);
        tokio::pin!(limit);
        loop {
            match self.flight.room() {
                Room::Free => return Ok(()),
                Room::NoReaders => return Err(FillError::Lagged),
                Room::Full => {}
            }
            tokio::select! {
                _ = readers.changed() => {}
                () = &mut limit => {
                    self.flight.leave_slowest_behind();
                    limit.set(sleep(self.shared.limits.slow_reader));
                }
            }
        }
    }

    fn warn_not_stored(&self, error: &WriteError) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(digest = %self.flight.digest, error, "blob is streamed but cannot be stored");
    }
}

impl Landing {
    fn land(&mut self, result: Result<(), FillError>) {
        self.landed = true;
        self.shared.forget(&self.flight);
        if let Err(error) = result {
            self.flight.failed(error);
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.landed {
            self.land(Err(FillError::Stopped));
        }
    }
}

/// A stopping process finishes fills for those who read them, not for the store.
async fn stopped_and_deserted(shared: Arc<Shared>, flight: Arc<Flight>) {
    shared.tasks.stop_token().cancelled().await;
    let mut readers = flight.reader_changes();
    while !flight.is_deserted() && readers.changed().await.is_ok() {}
}

fn cut(batch: Vec<Bytes>, mut left: u64) -> Vec<Bytes> {
    let mut keep = |mut piece: Bytes| {
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= piece.len() as u64;
        (!piece.is_empty()).then_some(piece)
    };
    batch.into_iter().filter_map(&mut keep).collect()
}

fn describe(error: &FillError) -> String {
    match error {
        FillError::Corrupt(mismatch) => mismatch.to_string(),
        other => other.to_string(),
    }
}
