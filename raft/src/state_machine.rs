//! openraft's state machine: `meta::apply` on a [`StateStore`].

mod applied;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use meta::{Envelope, Overlay, StateHash};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use proto::v1 as pb;
use tokio::sync::watch;

use crate::log_disk::LogDisk;
use crate::runtime::Runtime;
use crate::snapshot::{Manifest, Snapshot};
use crate::state_store::StateStore;
use crate::types::{Entry, LogId, Payload, Reply, SnapshotMeta, StoredMembership, TypeConfig};
pub(crate) use applied::{Applied, AppliedCell};

/// Entries that share one commit of the state store. Bounds what a commit holds in memory.
const APPLY_BATCH_LEN: usize = 256;

/// openraft's form of a snapshot of ours.
pub(crate) type RaftSnapshot =
    openraft::Snapshot<crate::types::CommittedLeaderId, u64, crate::types::NodeInfo, Snapshot>;

/// The replicated state of this node. Clones share it; only openraft's applies entries.
pub(crate) struct StateMachine<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    store: S,
    applied: AppliedCell,
    disk: LogDisk,
}

impl<S> Clone for StateMachine<S> {
    fn clone(&self) -> Self {
        StateMachine {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: StateStore> StateMachine<S> {
    /// Reads how far the store has come.
    pub(crate) fn open(store: S, disk: LogDisk) -> io::Result<Self> {
        let applied = match store.applied()? {
            Some(record) => Applied::decode(record)?,
            None => Applied::default(),
        };
        Ok(StateMachine {
            shared: Arc::new(Shared {
                store,
                applied: AppliedCell::new(applied),
                disk,
            }),
        })
    }

    pub(crate) fn store(&self) -> &S {
        &self.shared.store
    }

    /// Index of the last applied entry, 0 before the first; follows each commit.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.watch()
    }

    /// Hash of the state, and the index it belongs to.
    pub(crate) fn state_hash(&self) -> (u64, StateHash) {
        let applied = self.shared.applied.get();
        (applied.index(), applied.hash)
    }

    /// Hash of the state right after entry `index` was applied, if that was not long ago.
    pub(crate) fn state_hash_at(&self, index: u64) -> Option<StateHash> {
        self.shared.applied.hash_at(index)
    }

    async fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared<S>) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let shared = Arc::clone(&self.shared);
        if !S::BLOCKING {
            return work(&shared);
        }
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .map_err(io::Error::other)?
    }
}

impl<S: StateStore> Shared<S> {
    fn apply(&self, entries: Vec<Entry>) -> io::Result<Vec<Reply>> {
        let mut applied = self.applied.get();
        let mut state = Overlay::new(self.store.latest());
        let mut replies = Vec::with_capacity(entries.len());
        let mut hashes = Vec::with_capacity(entries.len());
        for entry in entries {
            applied.last = Some(entry.log_id);
            let reply = match entry.payload {
                Payload::Blank => Reply::default(),
                Payload::Normal(proposal) => Reply(apply_command(&mut state, &mut applied.hash, &proposal.0)?),
                Payload::Membership(membership) => {
                    applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Reply::default()
                }
            };
            hashes.push((entry.log_id.index, applied.hash));
            replies.push(reply);
        }
        let work = self.disk.begin("apply entries");
        self.store.commit(state.into_mutations(), applied.encode())?;
        drop(work);
        self.applied.advance(applied, hashes);
        Ok(replies)
    }

    fn install(&self, snapshot: &Snapshot) -> io::Result<()> {
        self.store.install(snapshot)?;
        let record = self.store.applied()?.ok_or(io::ErrorKind::InvalidData)?;
        let applied = Applied::decode(record)?;
        let hashes = vec![(applied.index(), applied.hash)];
        self.applied.advance(applied, hashes);
        Ok(())
    }

    fn manifest(&self) -> Manifest {
        let pb::AppliedState {
            last_applied,
            membership,
            state_hash,
        } = self.applied.get().to_record();
        Manifest(pb::SnapshotManifest {
            last_log_id: last_applied,
            membership,
            state_hash,
            files: Vec::new(),
        })
    }
}

/// Applies one command to `state` and answers its encoded outcome.
fn apply_command<R: meta::Read>(state: &mut Overlay<R>, hash: &mut StateHash, command: &[u8]) -> io::Result<Bytes> {
    // A command this binary does not know means the cluster has moved on without it: stopping is all that is right.
    let envelope = Envelope::decode(command).map_err(io::Error::other)?;
    let (outcome, mutations) = meta::apply(&*state, &envelope).map_err(io::Error::other)?;
    hash.fold(&*state, &mutations).map_err(io::Error::other)?;
    state.push(mutations);
    Ok(outcome.encode().into())
}

impl<RT: Runtime, S: StateStore> RaftStateMachine<TypeConfig<RT>> for StateMachine<S> {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = SnapshotBuilder<S>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.shared.applied.get();
        Ok((applied.last, applied.membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig<RT>>>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(APPLY_BATCH_LEN);
        while let Some(batch) = batches.next().await {
            let batch: Vec<_> = batch.into_iter().collect::<io::Result<_>>()?;
            let (entries, responders): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let replies = self.offload(move |shared| shared.apply(entries)).await?;
            for (responder, reply) in responders.into_iter().zip(replies) {
                if let Some(responder) = responder {
                    responder.send(reply);
                }
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder<S>> {
        // Here, and not when building: only now is it sure that no entry is applied between reading how far the state
        // is and fixing it.
        let checkpoint = self.offload(|shared| shared.store.checkpoint(shared.manifest())).await;
        Some(SnapshotBuilder {
            state_machine: self.clone(),
            checkpoint: Some(checkpoint),
        })
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<S> {
        let checkpoint = self.offload(|shared| shared.store.checkpoint(shared.manifest())).await;
        SnapshotBuilder {
            state_machine: self.clone(),
            checkpoint: Some(checkpoint),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Snapshot) -> io::Result<()> {
        if snapshot.manifest.meta()? != *meta {
            return Err(io::Error::other("a snapshot's manifest and its announcement differ"));
        }
        self.offload(move |shared| shared.install(&snapshot)).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        self.shared.store.current_snapshot().map(to_raft).transpose()
    }
}

pub(crate) fn to_raft(snapshot: Snapshot) -> io::Result<RaftSnapshot> {
    Ok(RaftSnapshot {
        meta: snapshot.manifest.meta()?,
        snapshot,
    })
}

/// Turns a checkpoint into a snapshot while entries go on being applied.
pub(crate) struct SnapshotBuilder<S: StateStore> {
    state_machine: StateMachine<S>,
    checkpoint: Option<io::Result<S::Checkpoint>>,
}

impl<RT: Runtime, S: StateStore> RaftSnapshotBuilder<TypeConfig<RT>> for SnapshotBuilder<S> {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let checkpoint = self
            .checkpoint
            .take()
            .ok_or_else(|| io::Error::other("this snapshot was built before"))??;
        to_raft(
            self.state_machine
                .offload(move |shared| shared.store.seal(checkpoint))
                .await?,
        )
    }
}
