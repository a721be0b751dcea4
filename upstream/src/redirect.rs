//! Where a redirect leads, and whether credentials may go along.
//!
//! Pure. Registries answer blob requests with a redirect to a presigned URL of a content network, which fails if it
//! also gets an `Authorization`, and which nobody else must get ours through.

use http::Uri;

use crate::origin::Origin;

/// As many as container runtimes follow.
pub(crate) const REDIRECTS_MAX: usize = 10;

/// Resolves a `Location` against the URI that answered with it (RFC 3986 section 5.2, without `..` segments).
pub(crate) fn next_hop(current: &Uri, location: &str) -> Option<Uri> {
    let location = escape(location.split('#').next().unwrap_or_default().trim());
    let scheme = current.scheme_str()?;
    let authority = current.authority()?;
    let absolute = if location.contains("://") && !location.starts_with(['/', '?']) {
        location
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", current.path())
    } else if location.is_empty() {
        return None;
    } else {
        let directory = current.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let uri: Uri = absolute.parse().ok()?;
    Origin::of(&uri).map(|_| uri)
}

/// True if the `Authorization` meant for `from` may be sent to `to`: only to the same host, never from TLS to plain.
pub(crate) fn keeps_authorization(from: &Uri, to: &Uri) -> bool {
    match (Origin::of(from), Origin::of(to)) {
        (Some(from), Some(to)) if from == to => true,
        (Some(from), Some(to)) => {
            let upgraded = !from.is_https() && to.is_https();
            upgraded && from.host() == to.host() && from.port() == 80 && to.port() == 443
        }
        _ => false,
    }
}

/// Escapes what a sloppy server left raw, so that the rest of the URI survives as it was signed.
fn escape(location: &str) -> String {
    let mut escaped = String::with_capacity(location.len());
    for byte in location.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(location: &str) -> Option<String> {
        next_hop(&"https://reg.example:5000/v2/a/blobs/x?y=1".parse().unwrap(), location).map(|uri| uri.to_string())
    }

    #[test]
    fn locations_resolve_as_a_browser_would() {
        let table = [
            (
                "https://cdn.example/b?sig=a%2Fb",
                Some("https://cdn.example/b?sig=a%2Fb"),
            ),
            ("//cdn.example/b", Some("https://cdn.example/b")),
            ("/v2/b?u=http://x", Some("https://reg.example:5000/v2/b?u=http://x")),
            ("other", Some("https://reg.example:5000/v2/a/blobs/other")),
            ("?z=2", Some("https://reg.example:5000/v2/a/blobs/x?z=2")),
            ("https://cdn.example/a b#frag", Some("https://cdn.example/a%20b")),
            ("ftp://cdn.example/b", None),
            ("", None),
            ("https://", None),
        ];
        for (location, expected) in table {
            assert_eq!(hop(location).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn authorization_stays_with_its_host() {
        let table = [
            ("https://a.example/x", "https://a.example:443/y", true),
            ("http://a.example/x", "https://a.example/y", true),
            ("https://a.example/x", "http://a.example/y", false),
            ("https://a.example/x", "https://a.example:8443/y", false),
            ("https://a.example/x", "https://b.a.example/y", false),
            ("https://a.example/x", "https://cdn.example/y", false),
        ];
        for (from, to, expected) in table {
            assert_eq!(
                keeps_authorization(&from.parse().unwrap(), &to.parse().unwrap()),
                expected,
                "{from} {to}"
            );
        }
    }
}
