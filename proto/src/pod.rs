//! What kuik writes on pods: the contract between the webhook, which writes it, and the controller, which reads it.
//!
//! Names are kube-image-keeper v1's, so that its users' selectors, tools and running pods go on working.

/// Label of every pod the webhook has looked at: `"true"`.
pub const LABEL_MANAGED: &str = "kuik.enix.io/managed";
/// Label with which a pod opts out: `ignore`.
pub const LABEL_CACHING_POLICY: &str = "kube-image-keeper.enix.io/image-caching-policy";
/// Annotation: `"true"` where images were rewritten, also asks for it on update; `"false"` where not.
pub const ANNOTATION_REWRITE_IMAGES: &str = "kuik.enix.io/rewrite-images";
/// Annotation: a JSON object from container (or `volume/NAME`) to the reason its image was left as it was.
pub const ANNOTATION_NOT_REWRITTEN: &str = "kuik.enix.io/not-rewritten";
/// Annotation: a JSON object from container to the reason its original image was put back.
pub const ANNOTATION_RESTORED: &str = "kuik.enix.io/restored";
/// Longest name part of an annotation key that Kubernetes takes.
const KEY_NAME_BYTES_MAX: usize = 63;

/// Where an image stands in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `spec.containers`.
    Container,
    /// `spec.initContainers`.
    InitContainer,
    /// `spec.ephemeralContainers`.
    EphemeralContainer,
    /// `spec.volumes[].image`.
    Volume,
}

impl Place {
    fn prefix(self) -> &'static str {
        match self {
            Self::Container => "original-image-",
            Self::InitContainer => "original-init-image-",
            Self::EphemeralContainer => "original-ephemeral-image-",
            Self::Volume => "original-volume-image-",
        }
    }
}

/// Key of the annotation that keeps the image as the user wrote it, for the container or volume `name`.
///
/// A name that makes the key too long is replaced by its SHA-1 in hex, as in kube-image-keeper v1.
pub fn original_image_key(place: Place, name: &str) -> String {
    let key = format!("{}{name}", place.prefix());
    if key.len() <= KEY_NAME_BYTES_MAX {
        return key;
    }
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, name.as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}{hex}", place.prefix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_v1() {
        assert_eq!(original_image_key(Place::Container, "app"), "original-image-app");
        assert_eq!(
            original_image_key(Place::InitContainer, "setup"),
            "original-init-image-setup"
        );
    }

    #[test]
    fn key_that_would_be_too_long_is_hashed() {
        let name = "a".repeat(63);
        let key = original_image_key(Place::Container, &name);
        assert_eq!(key, "original-image-03f09f5b158a7a8cdad920bddc29b81c18a551f5");
        assert!(original_image_key(Place::Volume, &name).len() <= 63);
    }
}
