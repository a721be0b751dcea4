//! Takes in a snapshot from another node, off the threads that must not block.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use proto::status::Failure;
use proto::v1 as pb;
use tonic::Status;

use crate::snapshot::{Manifest, Snapshot, SnapshotWriter};
use crate::state_machine::StateMachine;
use crate::state_store::StateStore;

/// A sender that says nothing for this long is gone; it begins again.
const SNAPSHOT_IDLE_MAX: Duration = Duration::from_secs(10);

/// A failure of the store, for who sent the snapshot.
pub(super) fn not_stored(error: io::Error) -> Status {
    let failure = match error.kind() {
        io::ErrorKind::InvalidData => Failure::Corrupt,
        _ => Failure::Internal,
    };
    failure.status(format!("take in a snapshot: {error}"))
}

/// The files of a snapshot that need not be sent.
pub(crate) async fn kept<S: StateStore>(state: StateMachine<S>, manifest: Manifest) -> Result<Vec<String>, Status> {
    offload(S::BLOCKING, move || state.store().kept(&manifest))
        .await
        .map_err(not_stored)
}

/// Takes in the bytes of a snapshot, but for the files `kept`.
pub(crate) async fn receive<S: StateStore>(
    state: StateMachine<S>,
    manifest: Manifest,
    kept: BTreeSet<String>,
    mut parts: impl Stream<Item = Result<pb::SnapshotPart, Status>> + Unpin,
) -> Result<Snapshot, Status> {
    let writer = offload(S::BLOCKING, move || state.store().receive(manifest, kept)).await;
    let mut writer = writer.map_err(not_stored)?;
    loop {
        let part = tokio::time::timeout(SNAPSHOT_IDLE_MAX, parts.try_next()).await;
        let part = part.map_err(|_| Failure::TimedOut.status("the sender of a snapshot fell silent"))??;
        let data = match part.map(|part| part.part) {
            Some(Some(pb::snapshot_part::Part::Data(data))) => data,
            Some(_) => return Err(Failure::Malformed.status("only bytes may follow a snapshot's header")),
            None => return finish(writer).await,
        };
        writer = write(writer, data).await.map_err(not_stored)?;
    }
}

async fn write(mut writer: SnapshotWriter, data: bytes::Bytes) -> io::Result<SnapshotWriter> {
    let is_on_disk = writer.is_on_disk();
    offload(is_on_disk, move || writer.write(&data).map(|()| writer)).await
}

async fn finish(writer: SnapshotWriter) -> Result<Snapshot, Status> {
    offload(writer.is_on_disk(), move || writer.finish())
        .await
        .map_err(not_stored)
}

/// Runs `work` where it may block, if it does.
async fn offload<T: Send + 'static>(
    blocks: bool,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if !blocks {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
