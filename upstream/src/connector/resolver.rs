//! Name resolution that leaves out forbidden addresses.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower::Service;

use crate::address::{ForbiddenAddress, forbidden};

/// Resolves as the system does and passes on only what may be connected to.
#[derive(Clone, Debug)]
pub(super) struct GuardedResolver {
    system: GaiResolver,
}

impl Default for GuardedResolver {
    fn default() -> Self {
        Self {
            system: GaiResolver::new(),
        }
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.system.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.system.call(name.clone());
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = resolving.await?.collect();
            Ok(filter(name.as_str(), addresses)?.into_iter())
        })
    }
}

/// Keeps the allowed addresses; an error only if all there are is forbidden.
fn filter(host: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ForbiddenAddress> {
    let first = addresses.first().copied();
    let allowed: Vec<_> = addresses
        .into_iter()
        .filter(|address| forbidden(address.ip()).is_none())
        .collect();
    match first.and_then(|address| forbidden(address.ip()).map(|kind| (address, kind))) {
        Some((address, kind)) if allowed.is_empty() => Err(ForbiddenAddress {
            host: host.to_owned(),
            address: address.ip().to_string(),
            kind,
        }),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter()
            .map(|address| SocketAddr::new(address.parse().unwrap(), 443))
            .collect()
    }

    #[test]
    fn forbidden_addresses_are_left_out_and_alone_are_an_error() {
        let mixed = addresses(&["127.0.0.1", "10.0.0.1", "fe80::1"]);
        assert_eq!(filter("h", mixed).unwrap(), addresses(&["10.0.0.1"]));
        let error = filter("rebind.example", addresses(&["169.254.169.254"])).unwrap_err();
        assert_eq!((&*error.host, &*error.address), ("rebind.example", "169.254.169.254"));
        assert_eq!(filter("h", Vec::new()).unwrap(), Vec::new());
    }
}
