//! The authorities of an install: the one that signs, and those that are trusted around a change.

use std::time::Duration;

use jiff::Timestamp;

use super::certificate::{CertificateError, Facts, Pair, make_authority};

/// Longer than any part takes to see a changed Secret: the kubelet's two minutes, our half minute.
const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// The authorities of an install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authorities {
    /// Signs.
    pub(crate) active: Pair,
    /// Trusted already, signs soon.
    pub(crate) next: Option<Pair>,
    /// Certificate that signed before; still trusted.
    pub(crate) previous: Option<String>,
}

impl Authorities {
    pub(crate) fn make(now: Timestamp) -> Result<Self, CertificateError> {
        Ok(Self {
            active: make_authority(now)?,
            next: None,
            previous: None,
        })
    }

    /// All certificates that parts should trust now, PEM.
    pub(crate) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.cert.as_str());
        let all = [Some(self.active.cert.as_str()), next, self.previous.as_deref()];
        all.into_iter()
            .flatten()
            .map(|pem| format!("{}\n", pem.trim_end()))
            .collect()
    }

    /// The next step of a change of authority that is due, if one is.
    pub(crate) fn step(&self, now: Timestamp) -> Result<Option<Self>, CertificateError> {
        let Some(active) = Facts::read(&self.active.cert).filter(|active| now < active.end) else {
            // Nothing it signed is taken any more: there is nothing to overlap with.
            return Self::make(now).map(Some);
        };
        let mut stepped = self.clone();
        if let Some(next) = &self.next {
            if overlapped(&next.cert, now) {
                stepped.previous = Some(std::mem::replace(&mut stepped.active, next.clone()).cert);
                stepped.next = None;
                return Ok(Some(stepped));
            }
        } else if now >= active.renew_at() {
            stepped.next = Some(make_authority(now)?);
            return Ok(Some(stepped));
        }
        if self.previous.is_some() && overlapped_twice(&self.active.cert, now) {
            stepped.previous = None;
            return Ok(Some(stepped));
        }
        Ok(None)
    }
}

fn age(cert: &str, now: Timestamp) -> Option<Duration> {
    let begin = Facts::read(cert)?.begin;
    u64::try_from(now.as_second() - begin.as_second())
        .ok()
        .map(Duration::from_secs)
}

fn overlapped(cert: &str, now: Timestamp) -> bool {
    age(cert, now).is_none_or(|age| age >= OVERLAP)
}

fn overlapped_twice(cert: &str, now: Timestamp) -> bool {
    age(cert, now).is_none_or(|age| age >= OVERLAP * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(days: i64) -> Timestamp {
        let begin: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        Timestamp::from_second(begin.as_second() + days * 24 * 3600).unwrap()
    }

    #[test]
    fn nothing_is_due_for_two_thirds_of_its_life() {
        let first = Authorities::make(after(0)).unwrap();
        assert_eq!(first.step(after(1)).unwrap(), None);
        assert_eq!(first.step(after(2430)).unwrap(), None);
    }

    #[test]
    fn a_change_overlaps_before_and_after() {
        let first = Authorities::make(after(0)).unwrap();
        let trusted = first.step(after(2434)).unwrap().unwrap();
        assert_eq!(trusted.active, first.active, "the old one signs on");
        let next = trusted.next.clone().unwrap();
        assert!(trusted.bundle().contains(first.active.cert.trim()) && trusted.bundle().contains(next.cert.trim()));
        assert_eq!(
            trusted.step(after(2434)).unwrap(),
            None,
            "not before everyone trusts it"
        );

        let signing = trusted.step(after(2435)).unwrap().unwrap();
        assert_eq!(signing.active, next);
        assert_eq!(signing.previous.as_ref(), Some(&first.active.cert));
        assert_eq!(
            signing.step(after(2435)).unwrap(),
            None,
            "what the old one signed is still in use"
        );

        let done = signing.step(after(2436)).unwrap().unwrap();
        assert_eq!(
            done,
            Authorities {
                active: next,
                next: None,
                previous: None
            }
        );
        assert_eq!(done.step(after(2437)).unwrap(), None);
    }

    #[test]
    fn an_authority_that_ended_is_replaced_at_once() {
        let first = Authorities::make(after(0)).unwrap();
        let replaced = first.step(after(3651)).unwrap().unwrap();
        assert_ne!(replaced.active, first.active);
        assert_eq!((replaced.next, replaced.previous), (None, None));
    }
}
