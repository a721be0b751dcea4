//! Error codes and the JSON document that carries them. Source: distribution-spec "Error Codes".

use std::fmt;

use serde::{Deserialize, Serialize};

/// A code of the distribution-spec (code-1 to code-14), or one that registries have always used beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// code-1: blob unknown to the registry.
    BlobUnknown,
    /// code-2: blob upload invalid.
    BlobUploadInvalid,
    /// code-3: blob upload unknown to the registry.
    BlobUploadUnknown,
    /// code-4: the digest is malformed or does not match the content.
    DigestInvalid,
    /// code-5: a manifest names content the registry does not have.
    ManifestBlobUnknown,
    /// code-6: manifest invalid.
    ManifestInvalid,
    /// code-7: manifest unknown to the registry.
    ManifestUnknown,
    /// code-8: invalid repository name.
    NameInvalid,
    /// code-9: repository name not known to the registry.
    NameUnknown,
    /// code-10: the length given does not match the content.
    SizeInvalid,
    /// code-11: authentication required.
    Unauthorized,
    /// code-12: access denied.
    Denied,
    /// code-13: the operation is unsupported.
    Unsupported,
    /// code-14: too many requests.
    #[serde(rename = "TOOMANYREQUESTS")]
    TooManyRequests,
    /// Not in the specification; what registries send for a malformed tag.
    TagInvalid,
    /// Not in the specification; what registries send for a range that cannot be served.
    RangeInvalid,
    /// Not in the specification; what registries send while they cannot serve.
    Unavailable,
    /// Not in the specification; an error of the registry itself, and any code not known here.
    #[serde(other)]
    Unknown,
}

/// The body of every error answer: `{"errors":[{"code","message","detail"}]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDocument {
    /// At least one.
    pub errors: Vec<ErrorEntry>,
}

/// One error of an [`ErrorDocument`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong, for people.
    #[serde(default)]
    pub message: String,
    /// The thing it went wrong with.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

impl ErrorDocument {
    /// A document with one error.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let entry = ErrorEntry {
            code,
            message: message.into(),
            detail: serde_json::Value::Null,
        };
        Self { errors: vec![entry] }
    }

    /// The bytes to send.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and JSON values always serialise")
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::TagInvalid => "TAG_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        };
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_shape_clients_parse() {
        let json = String::from_utf8(ErrorDocument::new(ErrorCode::ManifestUnknown, "no such tag").to_json()).unwrap();
        assert_eq!(
            json,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such tag"}]}"#
        );
    }

    #[test]
    fn the_printed_code_is_the_one_on_the_wire() {
        for code in [
            ErrorCode::BlobUnknown,
            ErrorCode::TooManyRequests,
            ErrorCode::TagInvalid,
            ErrorCode::Unknown,
            ErrorCode::NameInvalid,
        ] {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
        }
    }

    #[test]
    fn a_code_of_another_registry_is_unknown() {
        let document: ErrorDocument =
            serde_json::from_str(r#"{"errors":[{"code":"TEAPOT","detail":{"x":1}}]}"#).unwrap();
        assert_eq!(document.errors[0].code, ErrorCode::Unknown);
    }
}
