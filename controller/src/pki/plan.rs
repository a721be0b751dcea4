//! What has to be written about one part's certificate. Pure.

use jiff::Timestamp;

use super::authority::Authorities;
use super::certificate::Facts;
use super::part::Part;

/// What a part's Secret holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) ca: String,
    pub(crate) cert: String,
    pub(crate) has_key: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// The trusted authorities changed; the certificate stays.
    Bundle,
    /// A new certificate.
    Certificate,
}

pub(crate) fn due(part: &Part, held: Option<&Held>, authorities: &Authorities, now: Timestamp) -> Due {
    let Some(held) = held else {
        return Due::Certificate;
    };
    let facts = Facts::read(&held.cert);
    let signer = Facts::read(&authorities.active.cert);
    let (Some(facts), Some(signer)) = (facts, signer) else {
        return Due::Certificate;
    };
    let usable = held.has_key && facts.issuer == signer.subject && now < facts.renew_at() && facts.names == part.names;
    if !usable {
        return Due::Certificate;
    }
    if held.ca == authorities.bundle() {
        Due::Nothing
    } else {
        Due::Bundle
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::make_leaf;
    use super::*;

    fn after(days: i64) -> Timestamp {
        let begin: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        Timestamp::from_second(begin.as_second() + days * 24 * 3600).unwrap()
    }

    fn part() -> Part {
        Part {
            namespace: "n".to_owned(),
            secret: "s".to_owned(),
            names: vec!["a.svc".to_owned()],
        }
    }

    fn held(authorities: &Authorities) -> Held {
        let pair = make_leaf("s", &part().names, &authorities.active, after(0)).unwrap();
        Held {
            ca: authorities.bundle(),
            cert: pair.cert,
            has_key: true,
        }
    }

    #[test]
    fn a_certificate_in_order_is_left_alone_until_two_thirds_of_its_life() {
        let authorities = Authorities::make(after(0)).unwrap();
        let held = held(&authorities);
        for (day, expected) in [(0, Due::Nothing), (240, Due::Nothing), (244, Due::Certificate)] {
            assert_eq!(
                due(&part(), Some(&held), &authorities, after(day)),
                expected,
                "day {day}"
            );
        }
    }

    #[test]
    fn a_certificate_out_of_order_is_made_anew() {
        let authorities = Authorities::make(after(0)).unwrap();
        let good = held(&authorities);
        let other = held(&Authorities::make(after(0)).unwrap());
        let no_key = Held {
            has_key: false,
            ..good.clone()
        };
        let damaged = Held {
            cert: "x".to_owned(),
            ..good.clone()
        };
        for held in [None, Some(&other), Some(&no_key), Some(&damaged)] {
            assert_eq!(due(&part(), held, &authorities, after(0)), Due::Certificate, "{held:?}");
        }
        let renamed = Part {
            names: vec!["b.svc".to_owned()],
            ..part()
        };
        assert_eq!(due(&renamed, Some(&good), &authorities, after(0)), Due::Certificate);
    }

    #[test]
    fn a_new_authority_is_trusted_before_it_signs() {
        let first = Authorities::make(after(0)).unwrap();
        let held = held(&first);
        let trusted = first.step(after(2434)).unwrap().unwrap();
        assert_eq!(due(&part(), Some(&held), &trusted, after(1)), Due::Bundle);
        let signing = trusted.step(after(2435)).unwrap().unwrap();
        assert_eq!(due(&part(), Some(&held), &signing, after(1)), Due::Certificate);
    }
}
