//! Families of records: one RocksDB column family each.

use std::fmt;

/// One class of records. Keys are unique within a family.
///
/// The number of a family is part of snapshots and of the state hash, its name is that of a column family on disk:
/// neither is ever changed or reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// The one [`ClusterRecord`](crate::ClusterRecord).
    Cluster = 1,
    /// Repository id to [`RepositoryRecord`](crate::RepositoryRecord).
    Repositories = 2,
    /// `host/name` to repository id.
    RepositoryNames = 3,
    /// Repository id and tag to [`TagRecord`](crate::TagRecord).
    Tags = 4,
    /// Digest to [`ManifestRecord`](crate::ManifestRecord).
    Manifests = 5,
    /// Digest to the exact bytes of a manifest of at most 64 KiB.
    ManifestBytes = 6,
    /// Digest to [`BlobRecord`](crate::BlobRecord).
    Blobs = 7,
    /// Blob, held or not, manifest: the inverse of the blobs that manifests name. Empty values.
    BlobReferences = 8,
    /// Child manifest, held or not, index: the inverse of the children that indexes name. Empty values.
    ManifestParents = 9,
    /// Repository id and digest that may be read through it. Empty values.
    Links = 10,
    /// Repository id, subject, manifest. Empty values.
    Referrers = 11,
    /// Node id to [`NodeRecord`](crate::NodeRecord).
    Nodes = 12,
    /// Join nonce to node id.
    NodeNonces = 13,
    /// The one [`LayoutRecord`](crate::LayoutRecord).
    Layout = 14,
    /// Request id to the outcome it was answered with.
    Requests = 15,
    /// Ring of the request ids that are remembered.
    RequestRing = 16,
    /// Image reference to [`DesiredRecord`](crate::DesiredRecord).
    Desired = 17,
    /// The one [`WantedRecord`](crate::WantedRecord).
    Wanted = 18,
    /// `host/name` to [`Visibility`](crate::Visibility).
    Visibilities = 19,
    /// Credential id to [`CredentialRecord`](crate::CredentialRecord).
    Credentials = 20,
    /// Repository and namespace to [`GrantRecord`](crate::GrantRecord).
    Grants = 21,
    /// Name of a Kubernetes node to [`PlacementRecord`](crate::PlacementRecord).
    Placements = 22,
    /// Source hosts with a port. Empty values.
    KnownHosts = 23,
}

impl Family {
    /// Every family, in the order of snapshots.
    pub const ALL: [Self; 23] = [
        Self::Cluster,
        Self::Repositories,
        Self::RepositoryNames,
        Self::Tags,
        Self::Manifests,
        Self::ManifestBytes,
        Self::Blobs,
        Self::BlobReferences,
        Self::ManifestParents,
        Self::Links,
        Self::Referrers,
        Self::Nodes,
        Self::NodeNonces,
        Self::Layout,
        Self::Requests,
        Self::RequestRing,
        Self::Desired,
        Self::Wanted,
        Self::Visibilities,
        Self::Credentials,
        Self::Grants,
        Self::Placements,
        Self::KnownHosts,
    ];

    /// Name of the column family.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Repositories => "repositories",
            Self::RepositoryNames => "repository_names",
            Self::Tags => "tags",
            Self::Manifests => "manifests",
            Self::ManifestBytes => "manifest_bytes",
            Self::Blobs => "blobs",
            Self::BlobReferences => "blob_references",
            Self::ManifestParents => "manifest_parents",
            Self::Links => "links",
            Self::Referrers => "referrers",
            Self::Nodes => "nodes",
            Self::NodeNonces => "node_nonces",
            Self::Layout => "layout",
            Self::Requests => "requests",
            Self::RequestRing => "request_ring",
            Self::Desired => "desired",
            Self::Wanted => "wanted",
            Self::Visibilities => "visibilities",
            Self::Credentials => "credentials",
            Self::Grants => "grants",
            Self::Placements => "placements",
            Self::KnownHosts => "known_hosts",
        }
    }

    /// Its number in snapshots and in the state hash.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The family of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.number() == number)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_numbers_are_unique_and_lead_back() {
        let names: BTreeSet<_> = Family::ALL.iter().map(|family| family.name()).collect();
        assert_eq!(names.len(), Family::ALL.len());
        for family in Family::ALL {
            assert_eq!(Family::from_number(family.number()), Some(family));
        }
        assert_eq!(Family::from_number(0), None);
    }
}
