//! From what is known of an image to whether it may be pulled through the cache. Pure.

use std::fmt;

use crate::access::liveness::SILENT_AFTER;

/// What is answered for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may be pulled through the cache.
    Admitted,
    /// It is private, and the namespace has no grant that is of use.
    NoGrant,
    /// Its source wants credentials, and nobody has a grant.
    NeedsCredentials,
    /// Its source cannot be asked, and nothing is cached.
    SourceUnreachable,
    /// Its source has no such image, and nothing is cached.
    NotFound,
    /// It may be pulled through the cache, but would not be served now.
    NotReady(Missing),
}

/// What is missing before an image that may be pulled would be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Whoever says on which nodes a private image may be served.
    Controller,
    /// That the tier has recorded a host with a port, so that every node reads `host-port` in a path.
    Host,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => write!(
                f,
                "it is private, and no controller has placed anything for {SILENT_AFTER:?}: no node would be served it"
            ),
            Self::Host => f.write_str("its host has a port, which the cache nodes have not recorded yet"),
        }
    }
}

impl Admission {
    /// The answer where cache nodes may not know the image's host yet.
    pub(super) fn where_host_is_read(self, is_read: bool) -> Self {
        match self {
            Self::Admitted if !is_read => Self::NotReady(Missing::Host),
            other => other,
        }
    }
}

/// What is known without asking anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Public,
    Granted,
    /// There is a grant, but nobody has the key to any credential of the repository.
    Locked,
    Private,
    Nothing,
}

/// What the source says to somebody without credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    There,
    Denied,
    NotThere,
    /// It answers, but has no time.
    Busy,
    Silence,
}

/// What is known of one image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) known: Known,
    /// The image can be served without its source.
    pub(super) is_cached: bool,
    /// Nodes can be served what is private: it is not enforced who is, or there is somebody who says so.
    pub(super) is_placed_soon: bool,
}

impl Facts {
    /// Whether the answer depends on what the source says.
    pub(super) fn need_the_source(self) -> bool {
        match self.known {
            Known::Public => !self.is_cached,
            Known::Granted | Known::Locked => self.is_cached && !self.is_placed_soon,
            Known::Private | Known::Nothing => true,
        }
    }

    pub(super) fn decide(self, heard: Heard) -> Admission {
        match (self.known, heard) {
            // What was public and no longer is, or is gone, is served from the cache alone.
            (Known::Public, Heard::Denied) if !self.is_cached => Admission::NeedsCredentials,
            (Known::Public, _) => Admission::Admitted,
            (Known::Granted, _) => self.of_granted(heard),
            (Known::Locked, _) if self.is_cached => self.of_granted(heard),
            (Known::Private, Heard::There) => Admission::Admitted,
            (Known::Locked | Known::Private, _) => Admission::NoGrant,
            (Known::Nothing, Heard::There) => Admission::Admitted,
            (Known::Nothing, Heard::Denied) => Admission::NeedsCredentials,
            (Known::Nothing, _) if self.is_cached => Admission::Admitted,
            (Known::Nothing, Heard::NotThere) => Admission::NotFound,
            (Known::Nothing, Heard::Busy | Heard::Silence) => Admission::SourceUnreachable,
        }
    }

    /// Without a controller only nodes that have such a pod already are served it: worth a try where the source cannot
    /// be asked by anyone, and not otherwise.
    fn of_granted(self, heard: Heard) -> Admission {
        match self.is_placed_soon || (self.is_cached && heard == Heard::Silence) {
            true => Admission::Admitted,
            false => Admission::NotReady(Missing::Controller),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Admission::{Admitted, NeedsCredentials, NoGrant, NotFound, NotReady, SourceUnreachable};

    fn facts(known: Known, is_cached: bool, is_placed_soon: bool) -> Facts {
        Facts {
            known,
            is_cached,
            is_placed_soon,
        }
    }

    #[test]
    fn who_is_admitted() {
        let table = [
            (Known::Public, Heard::Silence, false, Admitted),
            (Known::Public, Heard::NotThere, false, Admitted),
            (Known::Public, Heard::Denied, false, NeedsCredentials),
            (Known::Public, Heard::Denied, true, Admitted),
            (Known::Granted, Heard::Silence, false, Admitted),
            (Known::Locked, Heard::Silence, false, NoGrant),
            (Known::Locked, Heard::Silence, true, Admitted),
            (Known::Private, Heard::Silence, true, NoGrant),
            (Known::Private, Heard::Denied, true, NoGrant),
            (Known::Private, Heard::There, false, Admitted),
            (Known::Nothing, Heard::There, false, Admitted),
            (Known::Nothing, Heard::Denied, false, NeedsCredentials),
            (Known::Nothing, Heard::Denied, true, NeedsCredentials),
            (Known::Nothing, Heard::NotThere, false, NotFound),
            (Known::Nothing, Heard::NotThere, true, Admitted),
            (Known::Nothing, Heard::Busy, false, SourceUnreachable),
            (Known::Nothing, Heard::Silence, false, SourceUnreachable),
            (Known::Nothing, Heard::Silence, true, Admitted),
        ];
        for (known, heard, is_cached, expected) in table {
            let decided = facts(known, is_cached, true).decide(heard);
            assert_eq!(decided, expected, "{known:?} {heard:?} {is_cached}");
        }
    }

    #[test]
    fn without_a_controller_private_images_wait_unless_nothing_else_could_serve_them() {
        let table = [
            (Known::Granted, Heard::Denied, true, NotReady(Missing::Controller)),
            (Known::Granted, Heard::Busy, true, NotReady(Missing::Controller)),
            (Known::Granted, Heard::Silence, true, Admitted),
            (Known::Granted, Heard::Silence, false, NotReady(Missing::Controller)),
            (Known::Locked, Heard::Denied, true, NotReady(Missing::Controller)),
            (Known::Locked, Heard::Silence, false, NoGrant),
            (Known::Private, Heard::Denied, true, NoGrant),
            (Known::Public, Heard::Silence, false, Admitted),
            (Known::Nothing, Heard::There, false, Admitted),
        ];
        for (known, heard, is_cached, expected) in table {
            let decided = facts(known, is_cached, false).decide(heard);
            assert_eq!(decided, expected, "{known:?} {heard:?} {is_cached}");
        }
    }

    #[test]
    fn nothing_is_admitted_whose_host_is_not_understood() {
        assert_eq!(Admitted.where_host_is_read(true), Admitted);
        assert_eq!(Admitted.where_host_is_read(false), NotReady(Missing::Host));
        assert_eq!(NoGrant.where_host_is_read(false), NoGrant);
    }

    #[test]
    fn the_source_is_asked_only_where_its_answer_matters() {
        let all = [
            Heard::There,
            Heard::Denied,
            Heard::NotThere,
            Heard::Busy,
            Heard::Silence,
        ];
        for known in [
            Known::Public,
            Known::Granted,
            Known::Locked,
            Known::Private,
            Known::Nothing,
        ] {
            for (is_cached, is_placed_soon) in [(false, false), (false, true), (true, false), (true, true)] {
                let facts = facts(known, is_cached, is_placed_soon);
                let differs = all
                    .iter()
                    .any(|heard| facts.decide(*heard) != facts.decide(Heard::Silence));
                assert_eq!(facts.need_the_source(), differs, "{facts:?}");
            }
        }
    }
}
