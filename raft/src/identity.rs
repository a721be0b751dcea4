//! Who this disk belongs to: kept apart from the log, because it is needed before the log is.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use meta::{ClusterId, JoinNonce, NodeId};

/// The cluster a node is in, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which node of it.
    pub node: NodeId,
    /// Whether this node founded the cluster and has not finished doing so.
    pub is_founding: bool,
}

/// What is written on a disk before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Drawn when the disk was empty.
    pub nonce: JoinNonce,
    /// How often a node started on this disk, this time included.
    pub boot_count: u64,
    /// Set once the node has an id.
    pub member: Option<Member>,
}

/// Keeps the identity of one node.
///
/// An implementation must guarantee that what `store` was given is durable when it returns, and that no other process
/// uses the same place.
pub trait IdentityStore: Send + Sync + 'static {
    /// What was stored last.
    fn load(&self) -> io::Result<Option<Identity>>;
    /// Replaces it.
    fn store(&self, identity: &Identity) -> io::Result<()>;
}

/// An identity in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryIdentity(Arc<Mutex<Option<Identity>>>);

impl IdentityStore for MemoryIdentity {
    fn load(&self) -> io::Result<Option<Identity>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn store(&self, identity: &Identity) -> io::Result<()> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity.clone());
        Ok(())
    }
}
