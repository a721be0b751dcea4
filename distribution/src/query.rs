//! What a client asks, parsed: one type per read of the distribution protocol, and what they have in common.

use std::sync::Arc;

use oci::{Digest, ManifestReference, RangeHeader, RepositoryName, SourceHost, Tag};

use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::notes::CacheIndex;

/// What every request carries beside its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// The `ns` parameter: the registry a containerd mirror request is really meant for. Such a client has a
    /// next host to try.
    pub ns: Option<SourceHost>,
    /// How many nodes of the tier the request already travelled (`X-Kuik-Hop`); 0 from a client.
    pub hop: u8,
    /// The newest tag token the client has seen (`X-Cache-Index`).
    pub cache_index: Option<CacheIndex>,
    /// Who is at the other end of the connection.
    pub client: Client,
    /// What they showed to prove it.
    pub certificate: Option<PeerCertificate>,
    /// The machine a proxy says it runs on (`Kuik-Node`). Anyone may say so.
    pub node: Option<Arc<str>>,
}

/// The certificate a client showed and the server configuration's verifier passed. Also an extension of each request
/// that [`Routes`](crate::Routes) get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate(pub Arc<CertificateDer<'static>>);

/// Who is at the other end of a connection, as far as the transport proved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A plain connection.
    Plain,
    /// TLS, and the client showed no certificate.
    TlsAnonymous,
    /// TLS, and the client's certificate passed the server configuration's verifier.
    TlsVerified,
}

/// `GET` or `HEAD` of `/v2/<name>/manifests/<reference>`.
#[derive(Debug, Clone)]
pub struct ManifestQuery {
    /// What every request carries.
    pub context: RequestContext,
    /// The name as in the path; its first segment may be a registry host.
    pub name: RepositoryName,
    /// Tag or digest.
    pub reference: ManifestReference,
    /// Only headers are wanted; [`ManifestAnswer::bytes`](crate::ManifestAnswer) may stay empty.
    pub head: bool,
}

/// `GET` or `HEAD` of `/v2/<name>/blobs/<digest>`.
#[derive(Debug, Clone)]
pub struct BlobQuery {
    /// What every request carries.
    pub context: RequestContext,
    /// The name as in the path; its first segment may be a registry host.
    pub name: RepositoryName,
    /// The blob.
    pub digest: Digest,
    /// Only headers are wanted; the answer's reader is not read.
    pub head: bool,
    /// A hint of what will be read. The server resolves it against the answer's size and passes the result to
    /// [`BlobReader::read`](crate::BlobReader::read); a registry need not look at it.
    pub range: Option<RangeHeader>,
}

/// `GET /v2/<name>/tags/list`.
#[derive(Debug, Clone)]
pub struct TagsQuery {
    /// What every request carries.
    pub context: RequestContext,
    /// The name as in the path; its first segment may be a registry host.
    pub name: RepositoryName,
    /// At most this many tags (`n`); `None` leaves it to the registry.
    pub limit: Option<usize>,
    /// Only tags after this one in lexical order (`last`).
    pub last: Option<Tag>,
}

/// `GET /v2/<name>/referrers/<digest>`.
#[derive(Debug, Clone)]
pub struct ReferrersQuery {
    /// What every request carries.
    pub context: RequestContext,
    /// The name as in the path; its first segment may be a registry host.
    pub name: RepositoryName,
    /// The subject.
    pub digest: Digest,
    /// Only referrers of this artifact type are wanted.
    pub artifact_type: Option<String>,
}
