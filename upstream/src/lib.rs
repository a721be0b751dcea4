//! The client side of the OCI distribution protocol.
//!
//! [`RegistryClient`] talks to source registries: tokens, redirects, ranges, retries, rate budgets, proxies, and a
//! refusal to be led to addresses nobody configured. [`NodeClient`] talks to our own cache nodes, with the headers that
//! travel between our parts and the question whether a silent node still lives ([`silence`]). Neither caches content
//! nor decides policy: errors are named for what the caller can do, and the caller does it.

mod address;
mod auth;
mod body;
mod budget;
mod challenge;
mod client;
mod config;
mod connector;
mod error;
mod origin;
mod redirect;
mod retry;
mod retry_after;
pub mod silence;
mod tier;
mod tls;
mod transport;

pub use address::{ForbiddenAddress, ForbiddenKind};
pub use body::BodyStream;
pub use budget::Budget;
pub use client::{
    Authorized, BlobHead, BlobStream, GrantedCredentials, Identity, LentAuthorizations, ManifestHead, NextPage,
    ReferrersPage, RegistryClient, TagsPage,
};
pub use config::{
    BaseUrl, BaseUrlError, CONNECT_TIMEOUT, ClientIdentity, ConfigError, Credential, Credentials, CredentialsError,
    HEADER_TIMEOUT, HostRule, NO_PROGRESS_TIMEOUT, Patience, ProxyError, ProxyRules, RawHostRule, RawUpstreamConfig,
    UpstreamConfig,
};
pub use error::{Cause, FailureStatus, Phase, Target, UpstreamError};
pub use retry::{RetryPolicy, Verdict};
pub use silence::{Silence, SilencePolicy};
pub use tier::{
    NODE_CONNECT_TIMEOUT, NodeBlob, NodeCall, NodeClient, NodeManifest, NodeNotes, NodeTransport, NodeUrl,
    NodeUrlError, X_CACHE_INDEX, X_KUIK_HOP, X_KUIK_SOURCE,
};
pub use transport::ACCEPT_ANY;
