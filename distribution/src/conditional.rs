//! Validators: a digest is the strongest entity tag there is. Source: RFC 9110 sections 8.8.3 and 13.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{IF_NONE_MATCH, IF_RANGE};
use http::{HeaderMap, HeaderValue};
use oci::Digest;

/// A digest in the two forms headers want, from one allocation.
#[derive(Debug)]
pub(crate) struct EntityTag(Bytes);

impl EntityTag {
    pub(crate) fn new(digest: &Digest) -> Self {
        let digest = digest.as_str().as_bytes();
        let mut quoted = BytesMut::with_capacity(digest.len() + 2);
        quoted.put_u8(b'"');
        quoted.put_slice(digest);
        quoted.put_u8(b'"');
        Self(quoted.freeze())
    }

    /// For `ETag`.
    pub(crate) fn quoted(&self) -> HeaderValue {
        header_value(self.0.clone())
    }

    /// For `Docker-Content-Digest`.
    pub(crate) fn digest(&self) -> HeaderValue {
        header_value(self.0.slice(1..self.0.len() - 1))
    }

    /// The client already has this: answer 304.
    pub(crate) fn none_match_fails(&self, headers: &HeaderMap) -> bool {
        headers.get_all(IF_NONE_MATCH).iter().any(|value| {
            let mut tags = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == &*self.0)
        })
    }

    /// `Range` counts only if `If-Range` is absent or names exactly this.
    pub(crate) fn if_range_holds(&self, headers: &HeaderMap) -> bool {
        headers.get(IF_RANGE).is_none_or(|value| value.as_bytes() == &*self.0)
    }
}

fn header_value(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).expect("the grammar of digests is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn if_none_match_finds_its_tag_in_any_form() {
        let digest = Digest::sha256(b"x");
        let tag = EntityTag::new(&digest);
        for value in [
            format!("\"{digest}\""),
            format!("W/\"{digest}\""),
            format!("\"other\" , \"{digest}\""),
            "*".to_owned(),
        ] {
            assert!(tag.none_match_fails(&headers(IF_NONE_MATCH, &value)), "{value}");
        }
        assert!(!tag.none_match_fails(&headers(IF_NONE_MATCH, "\"other\"")));
        assert!(!tag.none_match_fails(&HeaderMap::new()));
    }

    #[test]
    fn a_range_counts_only_for_the_same_bytes() {
        let digest = Digest::sha256(b"x");
        let tag = EntityTag::new(&digest);
        assert!(tag.if_range_holds(&HeaderMap::new()));
        assert!(tag.if_range_holds(&headers(IF_RANGE, &format!("\"{digest}\""))));
        assert!(!tag.if_range_holds(&headers(IF_RANGE, &format!("W/\"{digest}\""))));
        assert!(!tag.if_range_holds(&headers(IF_RANGE, "Wed, 21 Oct 2015 07:28:00 GMT")));
    }
}
