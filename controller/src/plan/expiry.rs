//! When an image that nothing uses is forgotten.

use jiff::Timestamp;

use super::View;
use crate::crd::CachedImage;
use crate::image::Image;

/// When an image is forgotten, and since when nothing uses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Expiry {
    pub(super) unused_since: Option<Timestamp>,
    pub(super) at: Option<Timestamp>,
}

impl Expiry {
    /// Nothing while it is not known which pods there are, and what may make others.
    ///
    /// An image that is used or retained never expires, whatever date its object holds. A date in its specification
    /// counts where it lies after the image fell out of use: v1's controller wrote dates there and forgot to take them back.
    pub(super) fn of(view: &View<'_>, image: &Image, object: &CachedImage) -> Option<Self> {
        if !view.state.pods.is_synced() || !view.state.workloads.are_synced() {
            return None;
        }
        if view.usage.contains_key(image) {
            return Some(Self::default());
        }
        let status = object.status.as_ref();
        let since = status
            .and_then(|status| status.unused_since.as_ref())
            .map_or(view.now, |since| since.0);
        let since = since.min(view.now);
        if object.spec.retain == Some(true) {
            return Some(Self {
                unused_since: Some(since),
                at: None,
            });
        }
        let asked = object.spec.expires_at.as_ref().map(|at| at.0).filter(|at| *at > since);
        let at = asked.or_else(|| since.checked_add(view.policy.expiry_delay).ok());
        Some(Self {
            unused_since: Some(since),
            at,
        })
    }
}
