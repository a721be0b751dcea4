//! The body of an answer on its way out: paced, counted, distorted.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use distribution::BlobStream;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream;
use tokio::time::{Instant, sleep, sleep_until};

/// Bodies go out in pieces no larger than this, so that rates are smooth and a byte counted is a byte sent soon.
const PIECE_BYTES: u64 = 64 * 1024;

/// Gives hyper time to send what it has before a reset throws it away.
const BEFORE_RESET: Duration = Duration::from_millis(20);

/// What happens at one place of a body.
pub(super) enum Effect {
    None,
    Wait(BoxFuture<'static, ()>),
    End,
    Reset(Box<dyn FnOnce() + Send>),
    Flip,
}

/// A body, and what becomes of it.
pub(super) struct Flow {
    pub(super) source: BlobStream,
    pub(super) effect: Effect,
    /// Where the effect happens.
    pub(super) at: u64,
    pub(super) rates: Vec<RateLimit>,
    pub(super) sent: Arc<AtomicU64>,
}

impl Flow {
    pub(super) fn into_stream(self) -> BlobStream {
        let state = (self, Bytes::new(), 0);
        stream::unfold(state, |(mut flow, mut pending, mut offset)| async move {
            let piece = flow.next(&mut pending, &mut offset).await?;
            Some((piece, (flow, pending, offset)))
        })
        .boxed()
    }

    async fn next(&mut self, pending: &mut Bytes, offset: &mut u64) -> Option<io::Result<Bytes>> {
        let mut flip = false;
        if *offset == self.at {
            match std::mem::replace(&mut self.effect, Effect::None) {
                Effect::None => (),
                Effect::Wait(over) => over.await,
                Effect::End => return None,
                Effect::Reset(reset) => {
                    sleep(BEFORE_RESET).await;
                    reset();
                    std::future::pending::<()>().await;
                }
                Effect::Flip => flip = true,
            }
        }
        while pending.is_empty() {
            match self.source.next().await? {
                Ok(bytes) => *pending = bytes,
                Err(err) => return Some(Err(err)),
            }
        }
        let mut piece = pending.split_to(self.piece_length(pending, *offset));
        if flip {
            piece = invert_first(&piece);
        }
        let n_bytes = piece.len() as u64;
        *offset += n_bytes;
        for rate in &self.rates {
            rate.take(n_bytes).await;
        }
        self.sent.fetch_add(n_bytes, Relaxed);
        Some(Ok(piece))
    }

    /// Up to the place where the effect happens, if that is ahead.
    fn piece_length(&self, pending: &Bytes, offset: u64) -> usize {
        let most = match self.at.checked_sub(offset) {
            Some(ahead @ 1..) => ahead.min(PIECE_BYTES),
            _ => PIECE_BYTES,
        };
        pending.len().min(usize::try_from(most).unwrap_or(usize::MAX))
    }
}

fn invert_first(piece: &Bytes) -> Bytes {
    let mut bytes = piece.to_vec();
    if let Some(first) = bytes.first_mut() {
        *first = !*first;
    }
    bytes.into()
}

/// So many bytes a second for all who share it.
#[derive(Debug, Clone, Default)]
pub(super) struct RateLimit(Arc<Mutex<Pace>>);

#[derive(Debug, Default)]
struct Pace {
    bytes_per_second: Option<u64>,
    /// When the bytes let through so far are paid for.
    free_at: Option<Instant>,
}

impl RateLimit {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        let limit = Self::default();
        limit.set(Some(bytes_per_second));
        limit
    }

    pub(super) fn set(&self, bytes_per_second: Option<u64>) {
        let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *pace = Pace {
            bytes_per_second: bytes_per_second.map(|rate| rate.max(1)),
            free_at: None,
        };
    }

    async fn take(&self, n_bytes: u64) {
        let wait_until = {
            let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(rate) = pace.bytes_per_second else { return };
            let now = Instant::now();
            let start = pace.free_at.unwrap_or(now).max(now);
            let paid = start + Duration::from_secs_f64(n_bytes as f64 / rate as f64);
            pace.free_at = Some(paid);
            paid
        };
        sleep_until(wait_until).await;
    }
}
