//! Sends a snapshot file by file, in parts, no faster than heartbeats can bear.

#[cfg(test)]
#[cfg(feature = "rocksdb")]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use proto::status::Failure;
use proto::v1 as pb;
use proto::v1::raft_client::RaftClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::codec::vote_to_wire;
use crate::snapshot::{PART_BYTES_MAX, Snapshot};
use crate::types::Vote;

/// A transfer of which nothing moves for this long is given up, and begun again later.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Bytes per second: a tenth of a fast link, so that the followers' heartbeats are not starved.
const BYTES_PER_SECOND_MAX: u64 = 100 << 20;

/// How long a receiver may hash what it has kept: all of the largest planned state, on a slow disk. After it, everything is
/// sent.
const KEPT_DEADLINE: Duration = Duration::from_secs(60);

/// Sends of `snapshot` what the receiver has not kept, and waits until it is installed.
pub(super) async fn send(
    mut client: RaftClient<Channel>,
    route: pb::Route,
    vote: Vote,
    snapshot: Snapshot,
    deadline: Duration,
) -> Result<pb::SnapshotResponse, Status> {
    let progress = Arc::new(Progress::default());
    let kept = ask_kept(&mut client, route.clone(), &snapshot).await;
    let header = pb::SnapshotHeader {
        route: Some(route),
        vote: Some(vote_to_wire(&vote)),
        manifest: Some(snapshot.manifest.0.clone()),
        kept,
    };
    let call = client.snapshot(parts(header, snapshot, Arc::clone(&progress)));
    tokio::select! {
        biased;
        response = tokio::time::timeout(deadline, call) => match response {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(progress.read_error().unwrap_or(status)),
            Err(_) => Err(Failure::TimedOut.status("snapshot was not installed in time")),
        },
        () = progress.stalled() => Err(Failure::TimedOut.status("snapshot transfer stalled")),
    }
}

/// What the receiver has of the snapshot. Nothing, if it cannot say: it may be older than the question.
async fn ask_kept(client: &mut RaftClient<Channel>, route: pb::Route, snapshot: &Snapshot) -> Vec<String> {
    let request = pb::SnapshotKeptRequest {
        route: Some(route),
        manifest: Some(snapshot.manifest.0.clone()),
    };
    match tokio::time::timeout(KEPT_DEADLINE, client.snapshot_kept(request)).await {
        Ok(Ok(response)) => response.into_inner().kept,
        Ok(Err(status)) => {
            tracing::debug!(%status, "a receiver does not say what it has of a snapshot, it is sent whole");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// How far a transfer is, seen by who watches over it.
#[derive(Default)]
struct Progress {
    parts: AtomicU64,
    all_sent: AtomicBool,
    failed: Mutex<Option<io::Error>>,
}

impl Progress {
    /// Ends when nothing was taken for [`IDLE_MAX`], unless all is sent: then only the deadline counts.
    async fn stalled(&self) {
        loop {
            let before = self.parts.load(Ordering::Relaxed);
            tokio::time::sleep(IDLE_MAX).await;
            let is_sent = self.all_sent.load(Ordering::Relaxed);
            if !is_sent && self.parts.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    fn read_error(&self) -> Option<Status> {
        let error = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Failure::Internal.status(format!("read the snapshot: {error}")))
    }
}

struct Cursor {
    snapshot: Snapshot,
    progress: Arc<Progress>,
    kept: BTreeSet<String>,
    file: usize,
    offset: u64,
}

/// The header, then all bytes of the files that it does not say are kept. Ends early if the snapshot cannot be read; the receiver then misses the rest.
fn parts(
    header: pb::SnapshotHeader,
    snapshot: Snapshot,
    progress: Arc<Progress>,
) -> impl Stream<Item = pb::SnapshotPart> + Send + 'static {
    let kept = header.kept.iter().cloned().collect();
    let header = pb::SnapshotPart {
        part: Some(pb::snapshot_part::Part::Header(header)),
    };
    let cursor = Cursor {
        snapshot,
        progress,
        kept,
        file: 0,
        offset: 0,
    };
    let data = stream::unfold(cursor, |mut cursor| async move {
        let data = cursor.next().await?;
        Some((
            pb::SnapshotPart {
                part: Some(pb::snapshot_part::Part::Data(data)),
            },
            cursor,
        ))
    });
    stream::iter([header]).chain(data)
}

impl Cursor {
    async fn next(&mut self) -> Option<Bytes> {
        let manifest = Arc::clone(&self.snapshot.manifest);
        let file = loop {
            let Some(file) = manifest.0.files.get(self.file) else {
                self.progress.all_sent.store(true, Ordering::Relaxed);
                return None;
            };
            if self.offset < file.size_bytes && !self.kept.contains(&file.name) {
                break file;
            }
            self.file += 1;
            self.offset = 0;
        };
        match self.read(file.name.clone()).await {
            Ok(data) if !data.is_empty() => {
                self.offset += data.len() as u64;
                self.progress.parts.fetch_add(1, Ordering::Relaxed);
                let pace = Duration::from_secs_f64(data.len() as f64 / BYTES_PER_SECOND_MAX as f64);
                tokio::time::sleep(pace).await;
                Some(data)
            }
            result => {
                let error = result.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                *self.progress.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        }
    }

    async fn read(&self, name: String) -> io::Result<Bytes> {
        let (snapshot, offset) = (self.snapshot.clone(), self.offset);
        if !snapshot.is_on_disk() {
            return snapshot.read(&name, offset, PART_BYTES_MAX);
        }
        let read = move || snapshot.read(&name, offset, PART_BYTES_MAX);
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }
}
