//! The replicated state machine: what the cache nodes agree on.
//!
//! [`apply`](fn@apply) is a function from (state, envelope) to (outcome, mutations). It does no IO, reads no clock, draws no
//! random number and never depends on hash-map order, so every replica that applies the same log holds the same
//! bytes. State is reached through [`Read`]; nothing here ever holds all of it but [`MemoryState`], which is for tests
//! and the simulation.
//!
//! Left out on purpose: where blob bytes lie, presence and access times (each node's own business, not the log's).

#![warn(missing_docs)]

mod apply;
mod codec;
mod command;
mod envelope;
mod family;
mod feature_level;
mod generation;
mod id;
pub mod invariant;
mod memory;
mod mutation;
mod outcome;
mod overlay;
pub mod placement;
mod read;
mod record;
pub mod snapshot;
mod state_hash;
pub mod view;

pub use apply::{CHILDREN_COMPLETED_AT_ONCE_MAX, MISSING_BLOBS_LISTED_MAX, REQUESTS_REMEMBERED_MAX, apply};
pub use codec::DecodeError;
pub use command::{
    ACCESS_AT_ONCE_MAX, AbandonGens, BootNode, Candidate, ChangeDesired, Command, CommitBlob, CompleteManifest,
    DESIRED_AT_ONCE_MAX, DESIRED_MAX, DesiredImage, InitCluster, KNOWN_HOSTS_MAX, KnowHosts, LAYOUT_SLOTS_MAX, Link,
    MANIFEST_INLINE_BYTES_MAX, ManifestContent, MarkGrants, MarkLost, NewerCommand, NodePlacement, NoteDesired,
    PLACED_REPOSITORIES_MAX, PLATFORMS_MAX, PromoteTag, PutGrant, PutManifest, REFERENCES_MAX, RegisterNode,
    RepositoryItem, ResealCredential, RevokeGrants, SEALED_BYTES_MAX, SetCandidate, SetFeatureLevel, SetLayout,
    SetPlacements, SetVisibility, TagCheck, TagChecked,
};
pub use envelope::Envelope;
pub use family::Family;
pub use feature_level::FeatureLevel;
pub use generation::{Gen, GenError};
pub use id::{ClusterId, CredentialId, IdError, JoinNonce, LogPosition, NodeId, RepositoryId, RequestId, StorageId};
pub use memory::MemoryState;
pub use mutation::Mutation;
pub use outcome::{Outcome, Rejected};
pub use overlay::Overlay;
pub use read::{Entry, Read, ReadError};
pub use record::{
    Addresses, BlobRecord, BlobReference, BlobState, ChildReference, ClusterRecord, Completeness, CredentialRecord,
    DesiredRecord, GrantRecord, LayoutRecord, ManifestRecord, ManifestReferences, NodeRecord, PlacementRecord,
    Platform, RepositoryRecord, TAG_HISTORY_MAX, TagHistoryEntry, TagRecord, Visibility, WantedRecord,
};
pub use state_hash::StateHash;
