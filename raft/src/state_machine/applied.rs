//! How far the state of this node has come.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use meta::StateHash;
use prost::Message;
use proto::v1 as pb;
use tokio::sync::watch;

use crate::codec::{self, CodecError};
use crate::types::{LogId, StoredMembership};

/// Recent state hashes kept, so that replicas at different places can still compare at the same index.
const HASHES_LEN_MAX: usize = 4096;

/// What a state store keeps beside the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) hash: StateHash,
}

impl Applied {
    pub(crate) fn index(&self) -> u64 {
        self.last.map_or(0, |last| last.index)
    }

    pub(super) fn to_record(&self) -> pb::AppliedState {
        pb::AppliedState {
            last_applied: self.last.as_ref().map(codec::log_id_to_wire),
            membership: Some(codec::stored_membership_to_wire(&self.membership)),
            state_hash: self.hash.to_bytes().to_vec().into(),
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        self.to_record().encode_to_vec().into()
    }

    pub(crate) fn decode(record: Bytes) -> Result<Self, CodecError> {
        let record = codec::decode::<pb::AppliedState>(record, "applied state")?;
        let membership = codec::required(record.membership, "membership of the applied state")?;
        let hash = <[u8; 16]>::try_from(record.state_hash.as_ref()).ok();
        Ok(Applied {
            last: record.last_applied.map(codec::log_id_from_wire),
            membership: codec::stored_membership_from_wire(membership)?,
            hash: StateHash::from_bytes(codec::required(hash, "state hash of 16 bytes")?),
        })
    }
}

/// The current [`Applied`], shared between who applies and who asks.
#[derive(Debug)]
pub(crate) struct AppliedCell {
    current: Mutex<Current>,
    index: watch::Sender<u64>,
}

#[derive(Debug)]
struct Current {
    applied: Applied,
    hashes: VecDeque<(u64, StateHash)>,
}

impl AppliedCell {
    pub(super) fn new(applied: Applied) -> Self {
        let index = watch::Sender::new(applied.index());
        let hashes = VecDeque::from([(applied.index(), applied.hash)]);
        AppliedCell {
            current: Mutex::new(Current { applied, hashes }),
            index,
        }
    }

    pub(super) fn get(&self) -> Applied {
        self.current().applied.clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    pub(super) fn hash_at(&self, index: u64) -> Option<StateHash> {
        let current = self.current();
        let at = current.hashes.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(current.hashes[at].1)
    }

    /// Moves on to `applied`; `hashes` are those of the entries on the way, in order.
    pub(super) fn advance(&self, applied: Applied, hashes: Vec<(u64, StateHash)>) {
        let index = applied.index();
        let mut current = self.current();
        current.applied = applied;
        current.hashes.extend(hashes);
        let surplus = current.hashes.len().saturating_sub(HASHES_LEN_MAX);
        current.hashes.drain(..surplus);
        drop(current);
        self.index.send_replace(index);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
