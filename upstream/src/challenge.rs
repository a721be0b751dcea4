//! `WWW-Authenticate`: what a registry wants before it answers.
//!
//! A pure parser of RFC 9110 section 11.6.1 as registries really write it: several challenges in one header or several
//! headers, quoted strings with commas and escapes, parameters in any order. Never fails and never panics: what makes no
//! sense is skipped, so that one odd challenge does not hide a good one beside it.

use std::fmt;

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// More challenges than this in one response are not read.
const CHALLENGES_MAX: usize = 16;

/// One challenge: a scheme and its parameters, names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// True if the scheme is this one (schemes ignore case).
    pub(crate) fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The value of a parameter, unless it is empty.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self
            .parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str());
        found.filter(|value| !value.is_empty())
    }
}

/// Reads every challenge of a response.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    let mut found: Vec<_> = values
        .flat_map(|value| parse(&String::from_utf8_lossy(value.as_bytes())))
        .collect();
    found.truncate(CHALLENGES_MAX);
    found
}

/// Reads the challenges of one header value.
pub(crate) fn parse(value: &str) -> Vec<Challenge> {
    let mut scanner = Scanner { rest: value };
    let mut found: Vec<Challenge> = Vec::new();
    while found.len() <= CHALLENGES_MAX {
        scanner.skip(|c| c.is_ascii_whitespace() || c == ',');
        let word = scanner.take(is_token);
        if word.is_empty() {
            if !scanner.drop_one() {
                break;
            }
            continue;
        }
        match scanner.parameter_value() {
            Some(value) => {
                if let Some(challenge) = found.last_mut() {
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                }
            }
            None => found.push(Challenge {
                scheme: word.to_owned(),
                parameters: Vec::new(),
            }),
        }
    }
    found.truncate(CHALLENGES_MAX);
    found
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn skip(&mut self, is: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(is);
    }

    fn take(&mut self, is: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn drop_one(&mut self) -> bool {
        let mut chars = self.rest.chars();
        let dropped = chars.next().is_some();
        self.rest = chars.as_str();
        dropped
    }

    /// The value after a `=`; nothing if the word before was a scheme. A scheme's token68 (`Negotiate abc==`) reads as
    /// a parameter without use.
    fn parameter_value(&mut self) -> Option<String> {
        let after = self.rest.trim_start().strip_prefix('=')?;
        self.rest = after.trim_start();
        match self.rest.strip_prefix('"') {
            Some(quoted) => {
                self.rest = quoted;
                Some(self.quoted())
            }
            None => Some(self.take(|c| c != ',' && !c.is_ascii_whitespace()).to_owned()),
        }
    }

    fn quoted(&mut self) -> String {
        let mut value = String::new();
        let mut chars = self.rest.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(chars.next()),
                c => value.push(c),
            }
        }
        self.rest = chars.as_str();
        value
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scheme)?;
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            let separator = if index == 0 { " " } else { "," };
            write!(
                f,
                "{separator}{name}=\"{}\"",
                value.replace('\\', "\\\\").replace('"', "\\\"")
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hub_challenge_gives_realm_service_and_scope() {
        let header = concat!(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io","#,
            r#"scope="repository:a/b:pull,push",error="insufficient_scope""#
        );
        let found = parse(header);
        assert_eq!(found.len(), 1);
        assert!(found[0].is("bearer"));
        assert_eq!(found[0].parameter("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(found[0].parameter("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(found[0].parameter("error"), Some("insufficient_scope"));
    }

    #[test]
    fn several_challenges_in_one_header_are_all_read() {
        let found = parse(r#"Basic realm="a, b", Bearer realm=https://r/t , service="s\"q", Negotiate"#);
        let schemes: Vec<_> = found.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["Basic", "Bearer", "Negotiate"]);
        assert_eq!(found[0].parameter("realm"), Some("a, b"));
        assert_eq!(found[1].parameter("realm"), Some("https://r/t"));
        assert_eq!(found[1].parameter("service"), Some("s\"q"));
    }

    #[test]
    fn an_odd_challenge_does_not_hide_a_good_one() {
        let found = parse(r#"Negotiate abc==, ;;; Bearer Realm="https://r/t" service=s"#);
        let bearer = found.iter().find(|c| c.is("bearer")).unwrap();
        assert_eq!(bearer.parameter("realm"), Some("https://r/t"));
        assert_eq!(bearer.parameter("service"), Some("s"));
    }

    fn challenge() -> impl Strategy<Value = Challenge> {
        let parameter = ("[a-z_][a-z0-9_]{0,8}", "[ -~äé]{0,24}");
        ("[A-Za-z][A-Za-z0-9-]{0,10}", proptest::collection::vec(parameter, 1..5))
            .prop_map(|(scheme, parameters)| Challenge { scheme, parameters })
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,200}") {
            prop_assert!(parse(&text).len() <= CHALLENGES_MAX);
        }

        #[test]
        fn what_is_written_is_read_back(list in proptest::collection::vec(challenge(), 1..5)) {
            let text = list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            prop_assert_eq!(parse(&text), list);
        }
    }
}
