//! Who is served a private repository on the registry port.
//!
//! Other cache nodes are: they ask for somebody whom they served. A proxy is while an admitted pod on its node uses the
//! repository; a pod that was scheduled a moment ago is known a moment later, so a proxy that is too early waits.

use std::sync::Arc;
use std::time::Duration;

use daemon::runtime::one_line;
use distribution::{Client, PeerCertificate, RequestContext};
use meta::{ReadError, Visibility, view};
use oci::Repository;
use proto::access::Role;
use raft::MetaHandle;
use tokio::time::{Instant, timeout_at};

use super::role::role_of;
use crate::pull_error::PullError;

/// How long a proxy waits for the placement of a pod that was just scheduled.
const PLACEMENT_PATIENCE: Duration = Duration::from_secs(3);

/// Who asks, as far as it was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reader {
    /// A part of the tier itself.
    CacheNode,
    /// The proxy of a Kubernetes node; without a name it can be served nothing private.
    Proxy(Option<Arc<str>>),
    /// Anybody else.
    Stranger,
}

impl Reader {
    /// Reads who asks from what the transport proved and what a proxy says of itself.
    pub fn of(context: &RequestContext) -> Self {
        Self::from_parts(context.client, context.certificate.as_ref(), context.node.clone())
    }

    /// [`Reader::of`], from the parts.
    pub fn from_parts(client: Client, certificate: Option<&PeerCertificate>, node: Option<Arc<str>>) -> Self {
        let verified = certificate.filter(|_| client == Client::TlsVerified);
        match verified.and_then(|certificate| role_of(&certificate.0)) {
            Some(Role::CacheNode) => Self::CacheNode,
            Some(Role::Proxy) => Self::Proxy(node),
            Some(Role::Webhook | Role::Controller) | None => Self::Stranger,
        }
    }
}

/// Lets through who may read a repository.
#[derive(Clone)]
pub struct Gate {
    ledger: MetaHandle,
    enforce: bool,
}

impl Gate {
    /// Decides from `ledger`; without `enforce` everyone may.
    pub fn new(ledger: MetaHandle, enforce: bool) -> Self {
        Self { ledger, enforce }
    }

    /// Whether anyone is refused anything.
    pub fn is_enforced(&self) -> bool {
        self.enforce
    }

    /// Lets `reader` read `repository`, or says why not. Waits a moment for a proxy that may be early.
    ///
    /// # Errors
    /// [`PullError::Denied`]; [`PullError::Internal`] if the state cannot be read.
    pub async fn pass(&self, reader: &Reader, repository: &Repository) -> Result<(), PullError> {
        if !self.enforce || *reader == Reader::CacheNode || !self.is_private(repository)? {
            return Ok(());
        }
        let Reader::Proxy(Some(node)) = reader else {
            return Err(denied(repository));
        };
        if self.is_placed_soon(node, repository).await? {
            return Ok(());
        }
        tracing::info!(%repository, node = &**node, "a private image is refused to a node without an admitted pod");
        Err(denied(repository))
    }

    fn is_private(&self, repository: &Repository) -> Result<bool, PullError> {
        let seen = view::visibility(&self.ledger.local(), repository).map_err(unreadable)?;
        Ok(matches!(seen, Some(Visibility::Private { .. })))
    }

    async fn is_placed_soon(&self, node: &str, repository: &Repository) -> Result<bool, PullError> {
        let deadline = Instant::now() + PLACEMENT_PATIENCE;
        let mut applied = self.ledger.applied();
        loop {
            applied.borrow_and_update();
            if self.is_placed(node, repository)? || !self.is_private(repository)? {
                return Ok(true);
            }
            if !matches!(timeout_at(deadline, applied.changed()).await, Ok(Ok(()))) {
                return Ok(false);
            }
        }
    }

    /// Whether an admitted pod on `node` uses `repository`.
    ///
    /// # Errors
    /// [`PullError::Internal`] if the state cannot be read.
    pub fn is_placed(&self, node: &str, repository: &Repository) -> Result<bool, PullError> {
        let placement = view::placement(&self.ledger.local(), node).map_err(unreadable)?;
        Ok(placement.holds(repository))
    }
}

fn denied(repository: &Repository) -> PullError {
    PullError::Denied(format!(
        "{repository} is private, and no admitted pod of this node uses it"
    ))
}

fn unreadable(error: ReadError) -> PullError {
    PullError::Internal(one_line(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> PeerCertificate {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        PeerCertificate(Arc::new(made.cert.der().clone()))
    }

    #[test]
    fn only_a_proven_proxy_is_believed_where_it_runs() {
        let node: Option<Arc<str>> = Some("worker-1".into());
        let reader = |client, name: &str| Reader::from_parts(client, Some(&certificate(name)), node.clone());
        let proxy = Role::Proxy.dns_name();
        assert_eq!(reader(Client::TlsVerified, proxy), Reader::Proxy(node.clone()));
        assert_eq!(reader(Client::TlsAnonymous, proxy), Reader::Stranger);
        assert_eq!(reader(Client::TlsVerified, "other.example"), Reader::Stranger);
        assert_eq!(reader(Client::TlsVerified, Role::Webhook.dns_name()), Reader::Stranger);
        assert_eq!(
            reader(Client::TlsVerified, Role::CacheNode.dns_name()),
            Reader::CacheNode
        );
        assert_eq!(Reader::from_parts(Client::Plain, None, node), Reader::Stranger);
    }

    #[test]
    fn the_header_is_the_one_of_the_contract() {
        assert_eq!(distribution::header::KUIK_NODE.as_str(), proto::access::NODE_HEADER);
    }
}
