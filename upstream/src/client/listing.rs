//! Tags and referrers of a repository, page by page.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderMap, Method};
use oci::{Digest, Endpoint, MediaType, RawManifest, Repository, Tag};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::RegistryClient;
use super::exchange::Ask;
use crate::body;
use crate::error::UpstreamError;

/// A page of tags may be long: some registries know no pages, and some repositories 100 000 tags.
const TAGS_SIZE_BYTES_MAX: usize = 16 << 20;

/// Some of the tags of a repository, in the registry's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagsPage {
    /// The tags; names outside the specification's grammar are left out.
    pub tags: Vec<Tag>,
    /// How to ask for more, if there is more.
    pub next: Option<NextPage>,
}

/// The parameters of the next page, as the registry's `Link` has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextPage {
    /// Most tags wanted.
    pub n: Option<u64>,
    /// The tag to start after.
    pub last: Tag,
}

/// What refers to a manifest.
#[derive(Clone, Debug)]
pub struct ReferrersPage {
    /// The image index with their descriptors, as it came.
    pub index: RawManifest,
    /// True if the registry kept to the type asked for; else the caller filters.
    pub filtered: bool,
    /// True if there is more than this.
    pub has_more: bool,
}

#[derive(Deserialize)]
struct TagsAnswer {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl RegistryClient {
    /// Lists tags, `n` at most (the registry may choose fewer), those after `last`.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn list_tags(
        &self,
        repository: &Repository,
        n: Option<u64>,
        last: Option<&Tag>,
    ) -> Result<TagsPage, UpstreamError> {
        let attempt = || async move {
            let endpoint = Endpoint::TagsList {
                name: repository.name.clone(),
                n,
                last: last.cloned(),
            };
            let ask = Ask {
                repository,
                endpoint,
                method: Method::GET,
                headers: HeaderMap::new(),
            };
            let target = ask.target();
            let answer = self.exchange(&ask, &target).await?;
            if !answer.response.status().is_success() {
                return Err(self.failure(answer, &target).await);
            }
            let next = next_page(answer.response.headers());
            let body = answer.response.into_body();
            let json = body::read_whole(body, TAGS_SIZE_BYTES_MAX, &target, self.patience.no_progress).await?;
            let tags = read_tags(&json).ok_or_else(|| UpstreamError::protocol(&target, "not a list of tags"))?;
            Ok(TagsPage { tags, next })
        };
        self.retrying(&repository.host, attempt).await
    }

    /// Fetches what refers to a manifest.
    ///
    /// # Errors
    /// [`UpstreamError::NotFound`] where the registry does not know the referrers API: the caller may then look for the
    /// tag `sha256-<hex>` that stands in for it. Contract: G-43.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<ReferrersPage, UpstreamError> {
        let attempt = || async move {
            let (name, digest) = (repository.name.clone(), subject.clone());
            let endpoint = Endpoint::Referrers {
                name,
                digest,
                artifact_type: artifact_type.map(str::to_owned),
            };
            let ask = Ask {
                repository,
                endpoint,
                method: Method::GET,
                headers: HeaderMap::new(),
            };
            let target = ask.target();
            let answer = self.exchange(&ask, &target).await?;
            if !answer.response.status().is_success() {
                return Err(self.failure(answer, &target).await);
            }
            let headers = answer.response.headers().clone();
            let filtered = header(&headers, "oci-filters-applied").is_some_and(|kinds| kinds.contains("artifactType"));
            let kind = header(&headers, CONTENT_TYPE.as_str()).and_then(|kind| kind.parse::<MediaType>().ok());
            // Registries that send pages of HTML for any path are met in the wild.
            let kind = kind.filter(MediaType::is_index);
            let kind = kind.ok_or_else(|| UpstreamError::NotFound { target: target.clone() })?;
            let bytes = self.read_manifest(answer, &target).await?;
            let index = RawManifest::new(bytes, kind).map_err(|error| UpstreamError::manifest(&target, error))?;
            Ok(ReferrersPage {
                index,
                filtered,
                has_more: next_link(&headers).is_some(),
            })
        };
        self.retrying(&repository.host, attempt).await
    }
}

fn read_tags(json: &Bytes) -> Option<Vec<Tag>> {
    let answer: TagsAnswer = serde_json::from_slice(json).ok()?;
    Some(
        answer
            .tags
            .unwrap_or_default()
            .iter()
            .filter_map(|tag| tag.parse().ok())
            .collect(),
    )
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The target of `Link: <…>; rel="next"`.
fn next_link(headers: &HeaderMap) -> Option<&str> {
    let links = headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    links
        .filter_map(|link| link.trim().strip_prefix('<')?.split_once('>'))
        .find_map(|(target, parameters)| {
            let relation = parameters.to_ascii_lowercase().replace(['"', ' '], "");
            relation.contains("rel=next").then_some(target)
        })
}

fn next_page(headers: &HeaderMap) -> Option<NextPage> {
    let (_, query) = next_link(headers)?.split_once('?')?;
    let value = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()?;
        percent_decode_str(found).decode_utf8().ok()
    };
    Some(NextPage {
        n: value("n").and_then(|n| n.parse().ok()),
        last: value("last")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_read_from_the_link() {
        let page = |link: &str| {
            let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
            next_page(&headers).map(|page| (page.n, page.last.to_string()))
        };
        let expected = Some((Some(2), "v1.0".to_owned()));
        assert_eq!(page(r#"</v2/a/tags/list?n=2&last=v1.0>; rel="next""#), expected);
        assert_eq!(
            page(r#"<https://r.example/x?z=1>; rel="prev", </v2/a/tags/list?last=v1%2E0&n=2>;rel=next"#),
            expected
        );
        assert_eq!(page(r#"</v2/a/tags/list?last=>; rel="next""#), None);
        assert_eq!(page("nonsense"), None);
    }

    #[test]
    fn odd_tags_are_left_out_and_null_is_empty() {
        let tags = |json: &'static str| {
            let tags = read_tags(&Bytes::from_static(json.as_bytes()))?;
            Some(tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            tags(r#"{"name": "a", "tags": ["v1", "not a tag", "v2"]}"#).as_deref(),
            Some("v1 v2")
        );
        assert_eq!(tags(r#"{"tags": null}"#).as_deref(), Some(""));
        assert_eq!(tags("<html>"), None);
    }
}
