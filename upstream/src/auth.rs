//! Proving who we are to a registry: challenges answered, tokens shared and renewed.
//!
//! Tokens are cached by realm, service, scope and credential; one refresh is in flight at a time, however many wait
//! for it. What a registry asked for is remembered per repository only to save a round trip: any 401 forgets it, so one
//! bad answer never outlives its request.

mod realm;
mod timestamp;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use http::HeaderValue;
use oci::Repository;
use tokio::time::Instant;

use crate::challenge::Challenge;
use crate::config::{Credential, Patience};
use crate::error::UpstreamError;
use crate::origin::Origin;
use crate::transport::Transport;
use token::{Token, TokenKey};

/// Tokens kept; the one that ends first makes room.
const TOKENS_MAX: usize = 2048;
/// Repositories whose way of asking is remembered.
const REMEMBERED_MAX: usize = 4096;

/// Who asks for what, and where.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) repository: Repository,
    /// The repository's name as the registry knows it.
    pub(crate) remote_name: String,
    pub(crate) registry: Origin,
    pub(crate) credential: Option<Arc<Credential>>,
    /// Further hosts whose token server may see the credential.
    pub(crate) realms: Vec<String>,
}

impl Access {
    fn asker(&self) -> Asker {
        (self.repository.clone(), self.credential.clone())
    }
}

impl Authorization {
    /// True if it proves nothing about who asks.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(&self.scheme, Scheme::Bearer(key) if key.is_anonymous())
    }
}

/// A header, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    pub(crate) header: HeaderValue,
    pub(crate) scheme: Scheme,
}

/// How a registry wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Not by what it asked for: somebody else found out and told us.
    Lent,
    Basic,
    Given,
    Bearer(Box<TokenKey>),
}

/// The tokens of one client.
#[derive(Debug)]
pub(crate) struct Authenticator {
    transport: Transport,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    tokens: HashMap<TokenKey, Slot>,
    /// By who asks, too: what one credential was given is never another's.
    remembered: HashMap<Asker, Scheme>,
}

type Asker = (Repository, Option<Arc<Credential>>);
type Fetch = BoxFuture<'static, Result<Token, UpstreamError>>;

#[derive(Debug)]
enum Slot {
    Ready(Token),
    /// Weak: when all who wait have gone, the fetch goes too, and the next one starts afresh.
    Fetching(WeakShared<Fetch>),
}

impl Authenticator {
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            state: Arc::default(),
        }
    }

    /// What worked last time for this repository, renewed if it has run out.
    ///
    /// # Errors
    /// As the token server; the way is then forgotten and the next request finds its own.
    pub(crate) async fn remembered(
        &self,
        access: &Access,
        patience: &Patience,
    ) -> Result<Option<Authorization>, UpstreamError> {
        let Some(scheme) = lock(&self.state).remembered.get(&access.asker()).cloned() else {
            return Ok(None);
        };
        let authorized = self.authorize(access, scheme, patience).await;
        if authorized.is_err() {
            lock(&self.state).remembered.remove(&access.asker());
        }
        authorized
    }

    /// Answers a 401: picks a challenge and gets what it asks for. Nothing if no challenge can be met, or only in a way
    /// that this request has `tried` already.
    ///
    /// # Errors
    /// As the token server.
    pub(crate) async fn respond(
        &self,
        access: &Access,
        challenges: &[Challenge],
        tried: &[Scheme],
        patience: &Patience,
    ) -> Result<Option<Authorization>, UpstreamError> {
        let Some(scheme) = choose(access, challenges).filter(|scheme| !tried.contains(scheme)) else {
            return Ok(None);
        };
        let authorized = self.authorize(access, scheme, patience).await?;
        if let Some(authorization) = &authorized {
            let mut state = lock(&self.state);
            if state.remembered.len() >= REMEMBERED_MAX {
                state.remembered.clear();
            }
            state.remembered.insert(access.asker(), authorization.scheme.clone());
        }
        Ok(authorized)
    }

    /// Until when `authorization` may be used; nothing for what does not end by itself.
    pub(crate) fn ends(&self, authorization: &Authorization) -> Option<Instant> {
        let Scheme::Bearer(key) = &authorization.scheme else {
            return None;
        };
        match lock(&self.state).tokens.get(&**key) {
            Some(Slot::Ready(token)) => Some(token.expires),
            _ => Some(Instant::now()),
        }
    }

    /// Forgets what a 401 was the answer to.
    pub(crate) fn reject(&self, access: &Access, refused: &Authorization) {
        let mut state = lock(&self.state);
        state.remembered.remove(&access.asker());
        let Scheme::Bearer(key) = &refused.scheme else { return };
        if matches!(state.tokens.get(&**key), Some(Slot::Ready(token)) if token.header == refused.header) {
            state.tokens.remove(&**key);
        }
    }

    async fn authorize(
        &self,
        access: &Access,
        scheme: Scheme,
        patience: &Patience,
    ) -> Result<Option<Authorization>, UpstreamError> {
        let header = match (&scheme, access.credential.as_deref()) {
            (Scheme::Bearer(key), _) => Some(self.token(key, patience).await?.header),
            (Scheme::Basic, Some(Credential::Basic { username, password })) => token::basic(username, password),
            (Scheme::Given, Some(Credential::RegistryToken(given))) => token::bearer(given),
            _ => None,
        };
        Ok(header.map(|header| Authorization { header, scheme }))
    }

    async fn token(&self, key: &TokenKey, patience: &Patience) -> Result<Token, UpstreamError> {
        let fetch = {
            let mut state = lock(&self.state);
            let running = match state.tokens.get(key) {
                Some(Slot::Ready(token)) if Instant::now() < token.expires => return Ok(token.clone()),
                Some(Slot::Fetching(fetch)) => fetch.upgrade(),
                _ => None,
            };
            running.unwrap_or_else(|| self.start_fetch(&mut state, key, patience))
        };
        fetch.await
    }

    fn start_fetch(&self, state: &mut State, key: &TokenKey, patience: &Patience) -> Shared<Fetch> {
        let (shared_state, kept) = (Arc::clone(&self.state), key.clone());
        let fetching = token::fetch(self.transport.clone(), key.clone(), patience.clone());
        let fetch: Fetch = Box::pin(async move {
            let fetched = fetching.await;
            lock(&shared_state).finish(kept, fetched.as_ref().ok());
            fetched
        });
        let fetch = fetch.shared();
        if let Some(weak) = fetch.downgrade() {
            state.make_room();
            state.tokens.insert(key.clone(), Slot::Fetching(weak));
        }
        fetch
    }
}

impl State {
    fn finish(&mut self, key: TokenKey, fetched: Option<&Token>) {
        match fetched {
            Some(token) => self.tokens.insert(key, Slot::Ready(token.clone())),
            None => self.tokens.remove(&key),
        };
    }

    fn make_room(&mut self) {
        if self.tokens.len() < TOKENS_MAX {
            return;
        }
        let now = Instant::now();
        self.tokens.retain(|_, slot| match slot {
            Slot::Ready(token) => now < token.expires,
            Slot::Fetching(fetch) => fetch.upgrade().is_some(),
        });
        if self.tokens.len() >= TOKENS_MAX {
            let ends = |slot: &Slot| match slot {
                Slot::Ready(token) => Some(token.expires),
                Slot::Fetching(_) => None,
            };
            let first = self
                .tokens
                .iter()
                .filter_map(|(key, slot)| Some((ends(slot)?, key)))
                .min_by_key(|(end, _)| *end);
            if let Some(key) = first.map(|(_, key)| key.clone()) {
                self.tokens.remove(&key);
            }
        }
    }
}

/// Bearer before Basic, since a token says less than a password.
fn choose(access: &Access, challenges: &[Challenge]) -> Option<Scheme> {
    let credential = access.credential.as_deref();
    if let Some(bearer) = challenges.iter().find(|challenge| challenge.is("bearer")) {
        if let Some(Credential::RegistryToken(_)) = credential {
            return Some(Scheme::Given);
        }
        if let Some(key) = token_key(access, bearer) {
            return Some(Scheme::Bearer(Box::new(key)));
        }
    }
    let basic = challenges.iter().any(|challenge| challenge.is("basic"));
    (basic && matches!(credential, Some(Credential::Basic { .. }))).then_some(Scheme::Basic)
}

fn token_key(access: &Access, challenge: &Challenge) -> Option<TokenKey> {
    let realm = challenge.parameter("realm")?.parse().ok()?;
    let realm_origin = Origin::of(&realm)?;
    let trusted = realm::may_see_credentials(&access.registry, &realm_origin, &access.realms);
    if access.credential.is_some() && !trusted {
        tracing::warn!(registry = %access.registry, realm = %realm_origin,
            "token server of another domain gets no credentials; list it under `realms` if it is right");
    }
    let scope = challenge.parameter("scope").map(str::to_owned);
    Some(TokenKey {
        realm,
        service: challenge.parameter("service").map(str::to_owned),
        scope: scope.unwrap_or_else(|| format!("repository:{}:pull", access.remote_name)),
        credential: access.credential.clone().filter(|_| trusted),
    })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
