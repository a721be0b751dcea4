//! What of a blob has come, what the client has of it, and what may go out: the arithmetic of a body, without IO.
//!
//! Guarantees that bytes go out once, in order and without a gap, whatever offsets suppliers start from, and that the
//! last ones go out only when the [`Proof`] holds.

use bytes::Bytes;
use oci::{ByteRange, Digest};

use super::proof::{Proof, REREAD_BYTES_MAX, Standard};
use crate::supply::{OpenBlob, Part};

/// The state of one body.
pub(super) struct Intake {
    digest: Digest,
    /// Length of the whole blob, once a supplier told.
    size: Option<u64>,
    /// Offset of the first byte the client wants.
    begin: u64,
    /// Offset behind the last one, once known.
    end: Option<u64>,
    /// Offset of the next byte the supplier sends.
    received: u64,
    /// Offset of the next byte the client gets.
    given: u64,
    /// `None` until [`Intake::select`] and after bytes that proved wrong.
    proof: Option<Proof>,
    /// The client was told no length, so each frame may be the last until another follows.
    unannounced: bool,
    /// Such a frame.
    held: Option<Bytes>,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// This may go out.
    Out(Bytes),
    /// Nothing may go out yet.
    Nothing,
    /// The bytes are not those of the blob.
    Wrong,
}

/// What the end of a supplier's bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The end of the body; the last bytes, if they are not out yet.
    Whole(Option<Bytes>),
    /// Too early.
    Short,
    /// At the right place, but the bytes are not those of the blob.
    Wrong,
}

/// Whether a body can go on with what was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    /// It does.
    Fits,
    /// Only if it is opened at its start.
    FromStartOnly,
    /// It is another blob, or another part than asked for.
    Misfit,
}

impl Intake {
    /// For a blob that was opened at `start`.
    pub(super) fn new(digest: Digest, size: Option<u64>, start: u64) -> Self {
        Self {
            digest,
            size,
            begin: start,
            end: size,
            received: start,
            given: start,
            proof: None,
            unannounced: false,
            held: None,
        }
    }

    /// Chooses what the client gets: a part within the length that was announced, or everything.
    ///
    /// Answers whether what was opened leads there.
    pub(super) fn select(&mut self, range: Option<ByteRange>, standard: Standard) -> bool {
        self.begin = range.map_or(0, |range| range.start());
        self.given = self.begin;
        self.end = range.map(|range| range.end_exclusive()).or(self.size);
        self.unannounced = self.end.is_none();
        self.begin_proof(standard);
        let leads_there = self.received <= self.begin;
        self.received = self.received.min(self.begin);
        leads_there
    }

    /// Takes the next frame of the supplier.
    pub(super) fn take(&mut self, mut frame: Bytes) -> Taken {
        let offset = self.received;
        let room = self.end.map_or(u64::MAX, |end| end.saturating_sub(offset));
        if frame.len() as u64 > room {
            if !matches!(self.proof, Some(Proof::Partial)) {
                return Taken::Wrong;
            }
            // A supplier that ignores the end of a range goes on after it.
            frame.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        }
        self.received += frame.len() as u64;
        if let Some(proof) = &mut self.proof {
            proof.feed(offset, &frame);
        }
        if self.end == Some(self.received) && !self.proof_holds() {
            return Taken::Wrong;
        }
        let had = self.given + self.held.as_ref().map_or(0, Bytes::len) as u64;
        let skipped = usize::try_from(had.saturating_sub(offset)).unwrap_or(usize::MAX);
        match skipped {
            0 => self.pass_on(frame),
            skipped if skipped < frame.len() => self.pass_on(frame.slice(skipped..)),
            _ => Taken::Nothing,
        }
    }

    /// Gives a frame out, or keeps it and gives out the one before while the end of the body is not known.
    fn pass_on(&mut self, fresh: Bytes) -> Taken {
        let withheld = self.unannounced && self.proof.as_ref().is_some_and(Proof::withholds);
        let out = if withheld {
            self.held.replace(fresh)
        } else {
            Some(fresh)
        };
        let Some(out) = out else { return Taken::Nothing };
        self.given += out.len() as u64;
        Taken::Out(out)
    }

    /// Judges the end of the supplier's bytes.
    pub(super) fn ended(&mut self) -> Ended {
        if self.end.is_some_and(|end| self.received < end) {
            return Ended::Short;
        }
        if !self.proof_holds() {
            return Ended::Wrong;
        }
        let held = self.held.take();
        self.given += held.as_ref().map_or(0, Bytes::len) as u64;
        Ended::Whole(held)
    }

    /// Whether the client has every byte it wants.
    pub(super) fn is_complete(&self) -> bool {
        self.end == Some(self.given)
    }

    /// Whether the client has any.
    pub(super) fn has_given(&self) -> bool {
        self.given > self.begin
    }

    /// Offset of the next byte a supplier is to send.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// What to ask the next supplier for if it turns out to be of this standard; `None` if too much would have to be
    /// read again.
    pub(super) fn part_from(&self, standard: Standard) -> Option<Part> {
        if self.proof.as_ref().is_none_or(|proof| proof.carries_over(standard)) {
            let end = self.end.filter(|_| matches!(self.proof, Some(Proof::Partial)));
            return Some(Part {
                start: self.received,
                end,
            });
        }
        (self.given <= REREAD_BYTES_MAX).then_some(Part::WHOLE)
    }

    /// Goes on with what the next supplier opened. Nothing changes unless that fits.
    pub(super) fn join(&mut self, opened: &OpenBlob, standard: Standard) -> Joined {
        let theirs = opened.size;
        if theirs.is_some_and(|theirs| self.size.map_or(theirs < self.received, |ours| theirs != ours)) {
            return Joined::Misfit;
        }
        let carries_over = self.proof.as_ref().is_none_or(|proof| proof.carries_over(standard));
        let wanted = if carries_over { self.received } else { 0 };
        if opened.start > wanted {
            return if carries_over {
                Joined::Misfit
            } else {
                Joined::FromStartOnly
            };
        }
        self.size = self.size.or(theirs);
        self.end = self.end.or(theirs);
        self.received = opened.start;
        if !carries_over {
            self.proof = Proof::from_start(&self.digest);
        } else if self.proof.is_none() {
            self.begin_proof(standard);
        }
        Joined::Fits
    }

    /// Starts over: nothing was given out, and what came is not to be trusted.
    pub(super) fn forget(&mut self) {
        self.received = self.begin;
        self.held = None;
        self.proof = None;
    }

    fn begin_proof(&mut self, standard: Standard) {
        let whole = self.begin == 0 && self.end == self.size;
        let proof = if whole {
            Proof::of_whole(&self.digest, standard)
        } else {
            Some(Proof::Partial)
        };
        // Digests that cannot be verified were refused before anything was opened.
        self.proof = Some(proof.unwrap_or(Proof::Partial));
    }

    fn proof_holds(&self) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.holds(self.received))
    }
}
