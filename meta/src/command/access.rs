//! Commands about who may read private repositories.

use std::fmt;

use minicbor::{Decode, Encode};
use oci::{Repository, SourceHost};

use crate::id::CredentialId;

/// Largest sealed credential. Tokens carry lists of permissions; none seen is near this.
pub const SEALED_BYTES_MAX: usize = 32 << 10;
/// Most grants, placements or hosts one command names.
pub const ACCESS_AT_ONCE_MAX: usize = 256;
/// Most private repositories placed on one Kubernetes node: it runs some hundred pods.
pub const PLACED_REPOSITORIES_MAX: usize = 1024;
/// Most source hosts with a port that are known.
pub const KNOWN_HOSTS_MAX: usize = 4096;

/// Records whether anyone may read a repository at its source.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SetVisibility {
    /// Which repository.
    #[cbor(n(0), with = "crate::codec::repository")]
    pub repository: Repository,
    /// Anyone may.
    #[n(1)]
    pub public: bool,
}

/// Records that a namespace showed credentials which read a repository, and that it is private.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct PutGrant {
    /// Which namespace.
    #[n(0)]
    pub namespace: String,
    /// Which repository.
    #[cbor(n(1), with = "crate::codec::repository")]
    pub repository: Repository,
    /// The credential's id.
    #[n(2)]
    pub credential: CredentialId,
    /// The credential, sealed.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
    /// Which key opens it.
    #[n(4)]
    pub key_id: String,
    /// Where it came from, for people.
    #[n(5)]
    pub origin: String,
}

/// Forgets grants of a namespace, and credentials that no grant rests on any more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RevokeGrants {
    /// Which namespace.
    #[n(0)]
    pub namespace: String,
    /// For which repositories.
    #[n(1)]
    pub repositories: Vec<RepositoryItem>,
}

/// Notes whether a source refuses the credential of grants. Grants that rest on another one by now are left alone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MarkGrants {
    /// Of which repository.
    #[cbor(n(0), with = "crate::codec::repository")]
    pub repository: Repository,
    /// To which namespaces.
    #[n(1)]
    pub namespaces: Vec<String>,
    /// Which credential.
    #[n(2)]
    pub credential: CredentialId,
    /// It is refused.
    #[n(3)]
    pub refused: bool,
}

/// Replaces the ciphertext of a credential by one of another key.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct ResealCredential {
    /// Which credential.
    #[n(0)]
    pub credential: CredentialId,
    /// The key it was sealed with; rejected if that changed meanwhile.
    #[n(1)]
    pub expected_key_id: String,
    /// The new ciphertext.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
    /// Which key opens that.
    #[n(3)]
    pub key_id: String,
}

/// Sets which private repositories admitted pods use, for each Kubernetes node named.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SetPlacements {
    /// All there is to say of each.
    #[n(0)]
    pub placements: Vec<NodePlacement>,
}

/// The private repositories of one Kubernetes node; none forgets the node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodePlacement {
    /// The node's name.
    #[n(0)]
    pub node: String,
    /// Its repositories.
    #[n(1)]
    pub repositories: Vec<RepositoryItem>,
}

/// A repository in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct RepositoryItem(#[cbor(n(0), with = "crate::codec::repository")] pub Repository);

/// Remembers source hosts with a port, so that `host-port` in a path is read as `host:port`. Others are left out.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KnowHosts {
    /// Which.
    #[cbor(n(0), with = "crate::codec::text")]
    pub hosts: Vec<SourceHost>,
}

impl fmt::Debug for PutGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutGrant")
            .field("namespace", &self.namespace)
            .field("repository", &self.repository)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ResealCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResealCredential")
            .field("credential", &self.credential)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}
