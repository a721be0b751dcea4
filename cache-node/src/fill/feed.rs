//! Waiting for a source: what tells a slow one from a dead one, and bytes in batches.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, Fuse};
use futures::{FutureExt, StreamExt};
use tokio::time::{sleep, timeout};

use super::source::{Source, SourceError, SourceStream};

/// Silence after which a source is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(1);
/// A source that lives answers within this.
const ALIVE_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes taken from a source before they are passed on, if there are that many at once.
const BATCH_BYTES: usize = 1 << 20;

/// A source that has answered.
pub(super) struct Feed<'a> {
    source: &'a dyn Source,
    patience: Duration,
    stream: Fuse<BoxStream<'static, Result<Bytes, SourceError>>>,
    ended: Option<SourceError>,
    /// Length of the whole blob, as the source says.
    pub(super) total: Option<u64>,
}

impl<'a> Feed<'a> {
    /// Asks the source for what follows `offset`, for as long as it may make no progress.
    pub(super) async fn open(source: &'a dyn Source, offset: u64, patience: Duration) -> Result<Self, SourceError> {
        let patience = source.patience().unwrap_or(patience);
        let SourceStream { total, stream } = attended(source, patience, source.open(offset)).await??;
        Ok(Self {
            source,
            patience,
            stream: stream.fuse(),
            ended: None,
            total,
        })
    }

    /// What has arrived: at least one byte, and not much more than [`BATCH_BYTES`]. Empty at the end of the stream.
    pub(super) async fn next_batch(&mut self) -> Result<Vec<Bytes>, SourceError> {
        if let Some(error) = self.ended.take() {
            return Err(error);
        }
        let mut batch = Vec::new();
        let mut n_bytes = 0;
        let mut next = self.wait().await?;
        while let Some(item) = next {
            match item {
                Ok(bytes) => {
                    n_bytes += bytes.len();
                    batch.extend((!bytes.is_empty()).then_some(bytes));
                }
                // What came before the error counts.
                Err(error) if n_bytes > 0 => {
                    self.ended = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
            if n_bytes >= BATCH_BYTES {
                break;
            }
            next = match self.stream.next().now_or_never() {
                Some(ready) => ready,
                None if n_bytes > 0 => break,
                None => self.wait().await?,
            };
        }
        Ok(batch)
    }

    async fn wait(&mut self) -> Result<Option<Result<Bytes, SourceError>>, SourceError> {
        attended(self.source, self.patience, self.stream.next()).await
    }
}

/// Waits while the source lives, and for as long as it may make no progress.
async fn attended<T>(
    source: &dyn Source,
    patience: Duration,
    progress: impl Future<Output = T>,
) -> Result<T, SourceError> {
    let dead = async {
        loop {
            sleep(SILENCE).await;
            if timeout(ALIVE_DEADLINE, source.alive()).await != Ok(true) {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        progress = progress => Ok(progress),
        () = dead => Err(SourceError::Dead),
        () = sleep(patience) => Err(SourceError::NoProgress(patience)),
    }
}
