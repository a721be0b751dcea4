//! Where a cache node is.

use std::fmt;
use std::str::FromStr;

use http::Uri;

use crate::error::Target;
use crate::origin::Origin;

/// The base URL of a cache node: scheme, host, port and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeUrl(Origin);

/// A text that is no [`NodeUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node url {0:?} is not http(s)://host:port")]
pub struct NodeUrlError(String);

impl NodeUrl {
    pub(super) fn uri(&self, path: &str) -> Result<Uri, http::uri::InvalidUri> {
        format!("{}{path}", self.0).parse()
    }

    pub(super) fn target(&self, thing: String) -> Target {
        Target::new(self.0.authority(), thing)
    }
}

impl FromStr for NodeUrl {
    type Err = NodeUrlError;

    fn from_str(text: &str) -> Result<Self, NodeUrlError> {
        let error = || NodeUrlError(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| error())?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !text.contains('@');
        Origin::of(&uri).filter(|_| bare).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_urls_are_origins() {
        assert_eq!(
            "http://10.0.0.1:5000/".parse::<NodeUrl>().unwrap().to_string(),
            "http://10.0.0.1:5000"
        );
        for url in [
            "10.0.0.1:5000",
            "http://h/base",
            "http://u@h:1",
            "http://h:1?x",
            "ftp://h",
        ] {
            assert!(url.parse::<NodeUrl>().is_err(), "{url}");
        }
    }
}
