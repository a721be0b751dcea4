//! An image as the tier names it: one spelling for each.

use std::fmt;

use oci::{ImageReference, ManifestReference, ReferenceError, Repository};

/// An image, printed as `host/name:tag` or `host/name@digest`, Docker Hub's names and `latest` written out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Image {
    repository: Repository,
    manifest: ManifestReference,
}

impl Image {
    /// Reads an image as a pod names it.
    ///
    /// # Errors
    /// [`ReferenceError`] if it is malformed.
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        let reference: ImageReference = text.parse()?;
        Ok(Self {
            manifest: reference.manifest(),
            repository: reference.repository,
        })
    }

    /// Where it lives.
    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Whether it names this very machine, whichever that is: nothing that one tier could fetch for all nodes.
    pub(crate) fn is_on_the_machine(&self) -> bool {
        let host = self.repository.host.host();
        host == "localhost" || host == "[::1]" || host.starts_with("127.")
    }
}

impl fmt::Display for Image {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.manifest {
            ManifestReference::Tag(_) => ':',
            ManifestReference::Digest(_) => '@',
        };
        write!(out, "{}{mark}{}", self.repository, self.manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_has_one_spelling() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let table = [
            ("nginx".to_owned(), "docker.io/library/nginx:latest".to_owned()),
            (
                "docker.io/nginx:latest".to_owned(),
                "docker.io/library/nginx:latest".to_owned(),
            ),
            (format!("quay.io/a/b:1@{digest}"), format!("quay.io/a/b@{digest}")),
            // v1 took the port's colon for a tag's (defect 16).
            ("reg:5000/app".to_owned(), "reg:5000/app:latest".to_owned()),
        ];
        for (text, expected) in table {
            assert_eq!(Image::parse(&text).unwrap().to_string(), expected);
            assert_eq!(Image::parse(&expected).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn images_of_the_machine_itself_are_known() {
        for (text, expected) in [
            ("localhost:5000/a", true),
            ("127.0.0.1:5000/a", true),
            ("quay.io/a", false),
        ] {
            assert_eq!(Image::parse(text).unwrap().is_on_the_machine(), expected, "{text}");
        }
    }
}
