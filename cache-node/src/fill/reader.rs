//! A reader attached to a fill.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use oci::Digest;

use super::error::FillError;
use super::flight::{Flight, Given};
use crate::blob_store::ByteStream;

/// Bytes of a fill in order. An error, and nothing else, means that it ended short.
pub type FillStream = BoxStream<'static, Result<Bytes, FillError>>;

/// One who waits for a blob that is being fetched. Dropping it changes nothing for the fill.
///
/// Guarantee: the last byte asked for, be it of the blob or of a part of it, is given only after the whole blob's digest
/// has been verified; of the blob's last 64 KiB nothing is.
pub struct FillReader {
    place: Place,
    origin: String,
}

/// A seat among a flight's readers, given up when dropped.
struct Place {
    flight: Arc<Flight>,
    id: u64,
}

impl FillReader {
    pub(super) fn new(flight: Arc<Flight>, id: u64, origin: String) -> Self {
        let place = Place { flight, id };
        Self { place, origin }
    }

    /// What is being fetched.
    pub fn digest(&self) -> &Digest {
        &self.place.flight.digest
    }

    /// Waits until the blob's length is known. `None` if the first bytes came without it.
    ///
    /// # Errors
    /// How the fill ended, if it failed before. Cancel safe.
    pub async fn size(&mut self) -> Result<Option<u64>, FillError> {
        let flight = &self.place.flight;
        let look = || match flight.size(&self.origin) {
            Some(size) => Some(size.map(Some)),
            None => flight.has_shown(&self.origin),
        };
        wait_for(flight, look).await
    }

    /// Waits until there is a first byte to give, or the whole empty blob, and says how long the blob is if that is known.
    ///
    /// # Errors
    /// How the fill ended, if it failed before. Cancel safe.
    pub async fn first_byte(&mut self) -> Result<Option<u64>, FillError> {
        let flight = &self.place.flight;
        wait_for(flight, || flight.has_shown(&self.origin)).await
    }

    /// Streams the blob from `start` on, up to `end` (exclusive) or its last byte, as bytes arrive.
    ///
    /// Where `end` lies before the blob's end, the part's last byte waits for the whole blob: who wants a small part of
    /// a large blob at once should ask a source for it.
    pub fn read(self, start: u64, end: Option<u64>) -> FillStream {
        self.place.flight.reader_at(self.place.id, start);
        let cursor = Cursor {
            reader: self,
            next: start,
            end: end.map(|end| end.max(start)),
            stored: None,
        };
        stream::try_unfold(cursor, Cursor::step).boxed()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.flight.leave(self.id);
    }
}

async fn wait_for<T>(flight: &Flight, look: impl Fn() -> Option<Result<T, FillError>>) -> Result<T, FillError> {
    let mut changes = flight.changes();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        // The sender lives in the flight, which this borrows.
        changes.changed().await.map_err(|_| FillError::Stopped)?;
    }
}

struct Cursor {
    reader: FillReader,
    next: u64,
    end: Option<u64>,
    stored: Option<ByteStream>,
}

impl Cursor {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, FillError> {
        let mut changes = self.reader.place.flight.changes();
        loop {
            if let Some(bytes) = self.next_stored().await? {
                return Ok(Some((bytes, self)));
            }
            match self.give()? {
                Given::Bytes(bytes) => {
                    self.advance(&bytes);
                    return Ok(Some((bytes, self)));
                }
                Given::Stored(stored, end) => self.stored = Some(stored.read(self.next..end)),
                Given::End => return Ok(None),
                Given::Wait => changes.changed().await.map_err(|_| FillError::Stopped)?,
            }
        }
    }

    async fn next_stored(&mut self) -> Result<Option<Bytes>, FillError> {
        let Some(stream) = &mut self.stored else {
            return Ok(None);
        };
        let bytes = stream
            .try_next()
            .await
            .map_err(|error| FillError::Read(Arc::new(error)))?;
        match &bytes {
            Some(bytes) => self.advance(&bytes.clone()),
            None => self.stored = None,
        }
        Ok(bytes)
    }

    fn give(&self) -> Result<Given, FillError> {
        let FillReader { place, origin } = &self.reader;
        place.flight.give(place.id, origin, self.next, self.end)
    }

    fn advance(&mut self, bytes: &Bytes) {
        self.next += bytes.len() as u64;
        let place = &self.reader.place;
        place.flight.reader_at(place.id, self.next);
    }
}
