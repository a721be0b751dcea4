//! Commands: every change that can be proposed.

mod access;
mod blobs;
mod cluster;
mod desired;
mod manifests;
mod nodes;
mod tags;

use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::feature_level::FeatureLevel;

pub use access::{
    ACCESS_AT_ONCE_MAX, KNOWN_HOSTS_MAX, KnowHosts, MarkGrants, NodePlacement, PLACED_REPOSITORIES_MAX, PutGrant,
    RepositoryItem, ResealCredential, RevokeGrants, SEALED_BYTES_MAX, SetPlacements, SetVisibility,
};
pub use blobs::{AbandonGens, CommitBlob, MarkLost};
pub use cluster::{InitCluster, SetFeatureLevel};
pub use desired::{ChangeDesired, DESIRED_AT_ONCE_MAX, DESIRED_MAX, DesiredImage, NoteDesired, PLATFORMS_MAX};
pub use manifests::{
    Candidate, CompleteManifest, Link, MANIFEST_INLINE_BYTES_MAX, ManifestContent, PutManifest, REFERENCES_MAX,
};
pub use nodes::{BootNode, LAYOUT_SLOTS_MAX, RegisterNode, SetLayout};
pub use tags::{PromoteTag, SetCandidate, TagCheck, TagChecked};

/// A change of the state. Each is safe to propose twice.
///
/// Numbers are never changed or reused. A new variant, or a new field that changes what a command does, comes with a
/// new [`FeatureLevel`] in [`Command::feature_level`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Genesis.
    #[n(0)]
    InitCluster(#[n(0)] InitCluster),
    /// Raises what every node is known to understand.
    #[n(1)]
    SetFeatureLevel(#[n(0)] SetFeatureLevel),
    /// Gives a new node its id.
    #[n(2)]
    RegisterNode(#[n(0)] RegisterNode),
    /// Records that a node started.
    #[n(3)]
    BootNode(#[n(0)] BootNode),
    /// Replaces the layout.
    #[n(4)]
    SetLayout(#[n(0)] SetLayout),
    /// Stores a manifest.
    #[n(5)]
    PutManifest(#[n(0)] PutManifest),
    /// Says that a blob's bytes are durable.
    #[n(6)]
    CommitBlob(#[n(0)] CommitBlob),
    /// Says that generations of earlier boots will not be used.
    #[n(7)]
    AbandonGens(#[n(0)] AbandonGens),
    /// Says that all a manifest needs is stored.
    #[n(8)]
    CompleteManifest(#[n(0)] CompleteManifest),
    /// Says that nobody has a blob's bytes any more.
    #[n(9)]
    MarkLost(#[n(0)] MarkLost),
    /// Records what upstream says a tag is.
    #[n(10)]
    SetCandidate(#[n(0)] SetCandidate),
    /// Moves a tag to its candidate.
    #[n(11)]
    PromoteTag(#[n(0)] PromoteTag),
    /// Records that upstream was asked for a tag.
    #[n(12)]
    TagChecked(#[n(0)] TagChecked),
    /// Lets a repository read a digest.
    #[n(13)]
    Link(#[n(0)] Link),
    /// Puts, drops or replaces desired images.
    #[n(14)]
    ChangeDesired(#[n(0)] ChangeDesired),
    /// Notes how it goes with a desired image.
    #[n(15)]
    NoteDesired(#[n(0)] NoteDesired),
    /// Records whether a repository is public.
    #[n(16)]
    SetVisibility(#[n(0)] SetVisibility),
    /// Records a grant and its credential.
    #[n(17)]
    PutGrant(#[n(0)] PutGrant),
    /// Forgets grants.
    #[n(18)]
    RevokeGrants(#[n(0)] RevokeGrants),
    /// Notes whether a credential is refused.
    #[n(19)]
    MarkGrants(#[n(0)] MarkGrants),
    /// Seals a credential with another key.
    #[n(20)]
    ResealCredential(#[n(0)] ResealCredential),
    /// Says which private repositories Kubernetes nodes use.
    #[n(21)]
    SetPlacements(#[n(0)] SetPlacements),
    /// Remembers hosts with a port.
    #[n(22)]
    KnowHosts(#[n(0)] KnowHosts),
    /// A command this binary is too old to read. Never written as such: its own bytes are.
    #[n(65535)]
    Newer(#[n(0)] NewerCommand),
}

/// The bytes of a command of a higher feature level than this binary supports.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NewerCommand {
    /// Its level.
    #[n(0)]
    pub(crate) feature_level: FeatureLevel,
    /// Itself.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) bytes: Vec<u8>,
}

impl Command {
    /// The lowest level a cluster must have before this may be proposed.
    pub fn feature_level(&self) -> FeatureLevel {
        match self {
            Self::Newer(newer) => newer.feature_level,
            Self::ChangeDesired(_)
            | Self::NoteDesired(_)
            | Self::SetVisibility(_)
            | Self::PutGrant(_)
            | Self::RevokeGrants(_)
            | Self::MarkGrants(_)
            | Self::ResealCredential(_)
            | Self::SetPlacements(_)
            | Self::KnowHosts(_) => FeatureLevel::ACCESS,
            _ => FeatureLevel::FIRST,
        }
    }

    /// What it is called in logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InitCluster(_) => "init_cluster",
            Self::SetFeatureLevel(_) => "set_feature_level",
            Self::RegisterNode(_) => "register_node",
            Self::BootNode(_) => "boot_node",
            Self::SetLayout(_) => "set_layout",
            Self::PutManifest(_) => "put_manifest",
            Self::CommitBlob(_) => "commit_blob",
            Self::AbandonGens(_) => "abandon_gens",
            Self::CompleteManifest(_) => "complete_manifest",
            Self::MarkLost(_) => "mark_lost",
            Self::SetCandidate(_) => "set_candidate",
            Self::PromoteTag(_) => "promote_tag",
            Self::TagChecked(_) => "tag_checked",
            Self::Link(_) => "link",
            Self::ChangeDesired(_) => "change_desired",
            Self::NoteDesired(_) => "note_desired",
            Self::SetVisibility(_) => "set_visibility",
            Self::PutGrant(_) => "put_grant",
            Self::RevokeGrants(_) => "revoke_grants",
            Self::MarkGrants(_) => "mark_grants",
            Self::ResealCredential(_) => "reseal_credential",
            Self::SetPlacements(_) => "set_placements",
            Self::KnowHosts(_) => "know_hosts",
            Self::Newer(_) => "newer",
        }
    }

    /// Its bytes, for a request between nodes. The log holds an [`Envelope`](crate::Envelope).
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Newer(newer) => newer.bytes.clone(),
            known => codec::to_vec(known),
        }
    }

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else, a command newer than this binary included.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match codec::from_slice("command", bytes)? {
            Self::Newer(_) => Err(DecodeError::new("command", "reserved variant")),
            known => Ok(known),
        }
    }
}
