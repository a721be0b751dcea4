//! What somebody else needs to ask a registry for one repository.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use oci::{Endpoint, Repository};
use tokio::time::Instant;

use super::RegistryClient;
use super::exchange::Ask;
use crate::body;
use crate::error::UpstreamError;

/// A header that reads one repository.
#[derive(Clone, Debug)]
pub struct Authorized {
    /// Value of `Authorization`, marked as sensitive.
    pub header: HeaderValue,
    /// For how long it works; `None` for one that does not end by itself.
    pub valid_for: Option<Duration>,
}

impl RegistryClient {
    /// What to show the registry for `repository`: a token where it uses tokens, else the credential itself. Nothing
    /// where it asks for none.
    ///
    /// # Errors
    /// [`UpstreamError`] if the registry or its token server does not answer, or refuses.
    pub async fn authorization(&self, repository: &Repository) -> Result<Option<Authorized>, UpstreamError> {
        let ask = Ask {
            repository,
            endpoint: Endpoint::TagsList {
                name: repository.name.clone(),
                n: Some(1),
                last: None,
            },
            method: Method::GET,
            headers: HeaderMap::new(),
        };
        let target = ask.target();
        let (answer, authorization) = self.exchange_authorized(&ask, &target).await?;
        if matches!(answer.response.status().as_u16(), 401 | 403) {
            return Err(self.failure(answer, &target).await);
        }
        body::discard(answer.response.into_body()).await;
        Ok(authorization.map(|authorization| Authorized {
            valid_for: self
                .shared
                .authenticator
                .ends(&authorization)
                .map(|end| end.saturating_duration_since(Instant::now())),
            header: authorization.header,
        }))
    }
}
