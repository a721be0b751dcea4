//! Commands about images to be filled and kept.

use minicbor::{Decode, Encode};
use oci::ImageReference;

use crate::record::Platform;

/// Most images one command names: bounds the records one entry touches.
pub const DESIRED_AT_ONCE_MAX: usize = 1000;
/// Most images desired at all. A cluster runs some thousands of different ones.
pub const DESIRED_MAX: u64 = 100_000;
/// Most platforms images are filled for.
pub const PLATFORMS_MAX: usize = 32;

/// Puts and drops desired images, or replaces the whole list in parts: `begin` with the first, `end` with the last.
///
/// At the end, images that none of the parts named are dropped, a bounded number per entry: while the answer says
/// `pending`, propose an end again. References name either a tag or a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ChangeDesired {
    /// Desired from now on, each with whether it is retained.
    #[n(0)]
    pub put: Vec<DesiredImage>,
    /// Not desired any more.
    #[cbor(n(1), with = "crate::codec::text")]
    pub drop: Vec<ImageReference>,
    /// A whole list begins.
    #[n(2)]
    pub begin: bool,
    /// The whole list ends.
    #[n(3)]
    pub end: bool,
    /// What every image is filled for; unchanged where empty.
    #[n(4)]
    pub platforms: Vec<Platform>,
}

/// An image to be filled and kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DesiredImage {
    /// Which.
    #[cbor(n(0), with = "crate::codec::text")]
    pub reference: ImageReference,
    /// Never evicted, used or not.
    #[n(1)]
    pub retain: bool,
}

/// Notes how it goes with a desired image. One that is not desired any more is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NoteDesired {
    /// Which.
    #[cbor(n(0), with = "crate::codec::text")]
    pub reference: ImageReference,
    /// All of it is there.
    #[n(1)]
    pub complete: bool,
    /// Why it cannot be fetched now.
    #[n(2)]
    pub error: Option<String>,
}
