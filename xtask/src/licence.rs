//! SPDX licence expressions, as far as `Cargo.toml` files use them: `AND`, `OR`, `WITH`, parentheses,
//! and the old `/` for `OR`.

use std::iter::Peekable;

/// Whether `expression` can be satisfied by licences that `allowed` accepts.
/// An expression that does not parse is never satisfied.
pub(crate) fn is_satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words, allowed) == Some(true) && words.next().is_none()
}

fn any_of<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut satisfied = all_of(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        satisfied |= all_of(words, allowed)?;
    }
    Some(satisfied)
}

fn all_of<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut satisfied = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        satisfied &= one(words, allowed)?;
    }
    Some(satisfied)
}

fn one<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    match words.next()? {
        "(" => {
            let inner = any_of(words, allowed)?;
            words.next_if_eq(&")").map(|_| inner)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        name => match words.next_if_eq(&"WITH") {
            Some(_) => Some(allowed(&format!("{name} WITH {}", words.next()?))),
            None => Some(allowed(name)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_mit_and_isc(expression: &str) -> bool {
        is_satisfied(expression, &|name| name == "MIT" || name == "ISC")
    }

    #[test]
    fn one_allowed_alternative_is_enough() {
        assert!(with_mit_and_isc("GPL-3.0 OR MIT"));
        assert!(with_mit_and_isc("MIT/Apache-2.0"));
        assert!(!with_mit_and_isc("GPL-3.0 OR Apache-2.0"));
    }

    #[test]
    fn every_part_of_a_conjunction_must_be_allowed() {
        assert!(with_mit_and_isc("(MIT OR GPL-3.0) AND ISC"));
        assert!(!with_mit_and_isc("MIT AND OpenSSL"));
        assert!(!with_mit_and_isc("MIT WITH LLVM-exception"));
    }

    #[test]
    fn what_does_not_parse_is_not_satisfied() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT MIT", "OR MIT"] {
            assert!(!with_mit_and_isc(expression), "{expression:?}");
        }
    }
}
