//! Authorizations that the tier lends this proxy, so that it can ask a source for a private repository itself.
//!
//! They are asked for in the background, when a repository is pulled through the tier, and kept in memory until they
//! end: pulls go on when the tier is gone. A tier that lives and refuses the repository takes its loan back. No pull
//! that the tier serves waits for any of this.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use oci::Repository;
use proto::access::{AUTHORIZATION_SECONDS_MAX, SourceAuthorization};
use tokio::sync::mpsc;
use tokio::time::Instant;
use upstream::LentAuthorizations;

use crate::pull::Failure;

/// Repositories remembered: a Kubernetes node runs some hundred images.
const LOANS_MAX: usize = 1024;
/// Requests that wait to be sent; a further one is made again by the next pull.
const WANTED_MAX: usize = 64;
/// Between two requests for one repository that was not lent.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// All loans.
#[derive(Debug)]
pub(crate) struct Loans {
    held: Mutex<HashMap<Repository, Loan>>,
    wanted: mpsc::Sender<Repository>,
}

#[derive(Debug, Clone)]
struct Loan {
    /// `None` where the source wants none, or none was lent.
    header: Option<HeaderValue>,
    ends: Instant,
    /// When the next pull asks again.
    renew: Instant,
}

impl Loans {
    /// No loans, and where the repositories come out that one should be asked for.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Repository>) {
        let (wanted, receiver) = mpsc::channel(WANTED_MAX);
        let loans = Self {
            held: Mutex::default(),
            wanted,
        };
        (loans, receiver)
    }

    /// Notes that a repository is in use, so that a loan for it is worth having. Does not wait.
    pub(crate) fn want(&self, repository: &Repository, now: Instant) {
        let mut held = self.lock();
        if held.get(repository).is_some_and(|loan| now < loan.renew) {
            return;
        }
        if self.wanted.try_send(repository.clone()).is_err() {
            return;
        }
        match held.get_mut(repository) {
            Some(loan) => loan.renew = now + RETRY_AFTER,
            None => held.insert_bounded(repository, Loan::none(now), now),
        }
    }

    /// Takes what the tier answered for a repository.
    pub(crate) fn take(&self, repository: &Repository, answer: Result<&SourceAuthorization, Failure>, now: Instant) {
        match answer.map(|answer| Loan::of(answer, now)) {
            Ok(Some(loan)) => self.lock().insert_bounded(repository, loan, now),
            Err(Failure::Denied) => self.revoke(repository, now),
            // What is held is as good as before.
            Ok(None) | Err(_) => {}
        }
    }

    /// Gives a loan back: the tier says that this machine may not use the repository.
    pub(crate) fn revoke(&self, repository: &Repository, now: Instant) {
        if let Some(loan) = self.lock().get_mut(repository) {
            *loan = Loan::none(now);
        }
    }

    fn header(&self, repository: &Repository, now: Instant) -> Option<HeaderValue> {
        let held = self.lock();
        let loan = held.get(repository).filter(|loan| now < loan.ends)?;
        loan.header.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Repository, Loan>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LentAuthorizations for Loans {
    fn get(&self, repository: &Repository) -> Option<HeaderValue> {
        self.header(repository, Instant::now())
    }
}

impl Loan {
    fn none(now: Instant) -> Self {
        Self {
            header: None,
            ends: now,
            renew: now + RETRY_AFTER,
        }
    }

    /// `None` if the header is none.
    fn of(answer: &SourceAuthorization, now: Instant) -> Option<Self> {
        let header = answer.authorization.as_deref().map(HeaderValue::from_str);
        let mut header = header.transpose().ok()?;
        if let Some(header) = &mut header {
            header.set_sensitive(true);
        }
        let life = Duration::from_secs(answer.seconds.min(AUTHORIZATION_SECONDS_MAX));
        Some(Self {
            header,
            ends: now + life,
            // Halfway, so that there is time left when the tier goes away; not for every pull of a short one.
            renew: now + (life / 2).max(Duration::from_secs(1)),
        })
    }
}

trait Bounded {
    fn insert_bounded(&mut self, repository: &Repository, loan: Loan, now: Instant);
}

impl Bounded for HashMap<Repository, Loan> {
    /// The one that ends first makes room.
    fn insert_bounded(&mut self, repository: &Repository, loan: Loan, now: Instant) {
        if self.len() >= LOANS_MAX && !self.contains_key(repository) {
            self.retain(|_, loan| now < loan.ends);
        }
        if self.len() >= LOANS_MAX && !self.contains_key(repository) {
            let first = self.iter().min_by_key(|(_, loan)| loan.ends);
            if let Some(first) = first.map(|(repository, _)| repository.clone()) {
                self.remove(&first);
            }
        }
        self.insert(repository.clone(), loan);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> Repository {
        Repository::new("quay.io".parse().unwrap(), name.parse().unwrap())
    }

    fn bearer(token: &str, seconds: u64) -> SourceAuthorization {
        SourceAuthorization {
            authorization: Some(format!("Bearer {token}")),
            seconds,
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_loan_is_wanted_once_used_until_it_ends_and_renewed_at_half_its_life() {
        let (loans, mut wanted) = Loans::new();
        let (repository, now) = (repository("a"), Instant::now());
        loans.want(&repository, now);
        loans.want(&repository, now);
        assert_eq!(wanted.try_recv().as_ref(), Ok(&repository));
        assert!(wanted.try_recv().is_err(), "asked for once");
        loans.take(&repository, Ok(&bearer("t", 100)), now);
        assert_eq!(loans.header(&repository, now + seconds(99)).unwrap(), "Bearer t");
        assert!(loans.header(&repository, now + seconds(100)).is_none());
        loans.want(&repository, now + seconds(49));
        assert!(wanted.try_recv().is_err(), "too early");
        loans.want(&repository, now + seconds(50));
        assert!(wanted.try_recv().is_ok());
        loans.take(&repository, Err(Failure::Unable), now + seconds(51));
        assert!(
            loans.header(&repository, now + seconds(52)).is_some(),
            "a tier in trouble takes nothing back"
        );
        loans.revoke(&repository, now + seconds(53));
        assert!(loans.header(&repository, now + seconds(53)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_loan_outlives_the_limit_and_garbage_is_no_loan() {
        let (loans, _wanted) = Loans::new();
        let (repository, now) = (repository("a"), Instant::now());
        loans.take(&repository, Ok(&bearer("new\nline", 10)), now);
        assert!(loans.header(&repository, now).is_none());
        loans.take(&repository, Ok(&bearer("t", u64::MAX)), now);
        let limit = seconds(AUTHORIZATION_SECONDS_MAX);
        assert!(loans.header(&repository, now + limit - seconds(1)).is_some());
        assert!(loans.header(&repository, now + limit).is_none());
        assert!(!format!("{loans:?}").contains("Bearer"), "never in a log");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let (loans, _wanted) = Loans::new();
        let now = Instant::now();
        for n in 0..2 * LOANS_MAX {
            loans.take(&repository(&format!("r{n}")), Ok(&bearer("t", 10)), now);
        }
        assert_eq!(loans.lock().len(), LOANS_MAX);
    }
}
