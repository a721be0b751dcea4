//! A [`Supply`] whose suppliers do what a test says, and which notes who was asked for what.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use distribution::{ManifestAnswer, ReferrersAnswer, Source, TagList};
use futures::future::{BoxFuture, pending};
use futures::{FutureExt, StreamExt, stream};
use oci::Repository;
use proto::access::{SourceAuthorization, TierFacts};
use tokio::time::timeout;

use super::{BlobAsk, BlobStat, Found, ManifestAsk, OpenBlob, Part, ReferrersAsk, Supplier, Supply, TagsAsk};
use crate::pull::Failure;

/// How one supplier behaves.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    Fails(Failure),
    Hangs,
    Serves(Script),
    Answers(ManifestAnswer),
}

/// How a supplier serves a blob.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) body: Bytes,
    pub(crate) source: Source,
    pub(crate) tells_size: bool,
    pub(crate) ignores_ranges: bool,
    pub(crate) frame_bytes: usize,
    /// After how many bytes of this answer it breaks off, and how.
    pub(crate) breaks: Option<(usize, Break)>,
    /// Offset of a byte it sends wrong.
    pub(crate) flips: Option<usize>,
    /// It notices that before the end, as a cache node does that passes a fill on, and cuts the answer short.
    pub(crate) checks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    Error,
    End,
    Hang,
}

/// The suppliers.
#[derive(Debug, Default)]
pub(crate) struct ScriptedSupply {
    pub(crate) behaviours: Mutex<HashMap<Supplier, Behaviour>>,
    pub(crate) asked: Mutex<Vec<(Supplier, Part)>>,
    /// Links to nodes are plain.
    pub(crate) plain: bool,
    /// What nodes know; `None` if they cannot say.
    pub(crate) facts: Mutex<Option<TierFacts>>,
    /// What nodes lend; `None` hangs.
    pub(crate) lent: Mutex<Option<Result<SourceAuthorization, Failure>>>,
    /// Nodes that were asked for a loan.
    pub(crate) lenders_asked: Mutex<Vec<usize>>,
}

impl Script {
    pub(crate) fn new(body: &Bytes, source: Source) -> Self {
        let body = body.clone();
        Self {
            body,
            source,
            tells_size: true,
            ignores_ranges: false,
            frame_bytes: 10,
            breaks: None,
            flips: None,
            checks: false,
        }
    }

    fn open(&self, part: Part) -> OpenBlob {
        let part = if self.ignores_ranges { Part::WHOLE } else { part };
        let length = self.body.len();
        let start = usize::try_from(part.start).unwrap().min(length);
        let end = part.end.map_or(length, |end| usize::try_from(end).unwrap().min(length));
        let mut bytes = self.body.to_vec();
        if let Some(offset) = self.flips {
            bytes[offset] ^= 1;
        }
        let sent = self.breaks.map_or(end, |(after, _)| end.min(start + after));
        let mut frames: Vec<_> = bytes[start..sent]
            .chunks(self.frame_bytes)
            .map(|f| Ok(Bytes::copy_from_slice(f)))
            .collect();
        if self.checks && self.flips.is_some() {
            frames.pop();
            frames.push(Err(Failure::Unreachable));
        }
        let broken = sent < end;
        let breaks = self.breaks.filter(|_| broken).map(|(_, how)| how);
        if breaks == Some(Break::Error) {
            frames.push(Err(Failure::Unreachable));
        }
        let frames = stream::iter(frames);
        let frames = if breaks == Some(Break::Hang) {
            frames.chain(stream::pending()).boxed()
        } else {
            frames.boxed()
        };
        let size = self.tells_size.then_some(length as u64);
        OpenBlob {
            size,
            start: start as u64,
            frames,
            source: self.source,
        }
    }
}

impl ScriptedSupply {
    pub(crate) fn set(&self, supplier: Supplier, behaviour: Behaviour) {
        self.behaviours.lock().unwrap().insert(supplier, behaviour);
    }

    pub(crate) fn asked(&self) -> Vec<(Supplier, Part)> {
        self.asked.lock().unwrap().clone()
    }

    fn ask(&self, supplier: Supplier, part: Part) -> Behaviour {
        self.asked.lock().unwrap().push((supplier, part));
        let behaviours = self.behaviours.lock().unwrap();
        behaviours
            .get(&supplier)
            .cloned()
            .unwrap_or(Behaviour::Fails(Failure::Unreachable))
    }

    fn answer<T: Send + 'static>(
        &self,
        from: Supplier,
        part: Part,
        make: impl FnOnce(Behaviour) -> Option<T>,
    ) -> Found<'_, T> {
        match self.ask(from, part) {
            Behaviour::Fails(failure) => async move { Err(failure) }.boxed(),
            Behaviour::Hangs => pending().boxed(),
            other => {
                let found = make(other).ok_or(Failure::Missing);
                async move { found }.boxed()
            }
        }
    }
}

impl Supply for ScriptedSupply {
    fn manifest<'a>(&'a self, from: Supplier, _ask: &'a ManifestAsk) -> Found<'a, ManifestAnswer> {
        self.answer(from, Part::WHOLE, |behaviour| match behaviour {
            Behaviour::Answers(answer) => Some(answer),
            _ => None,
        })
    }

    fn blob<'a>(&'a self, from: Supplier, _ask: &'a BlobAsk, part: Part) -> Found<'a, OpenBlob> {
        self.answer(from, part, |behaviour| match behaviour {
            Behaviour::Serves(script) => Some(script.open(part)),
            _ => None,
        })
    }

    fn stat<'a>(&'a self, from: Supplier, _ask: &'a BlobAsk) -> Found<'a, BlobStat> {
        self.answer(from, Part::WHOLE, |behaviour| match behaviour {
            Behaviour::Serves(script) => Some(BlobStat {
                size: script.tells_size.then_some(script.body.len() as u64),
                source: script.source,
            }),
            _ => None,
        })
    }

    fn tags<'a>(&'a self, from: Supplier, _ask: &'a TagsAsk) -> Found<'a, TagList> {
        self.answer(from, Part::WHOLE, |_| Some(TagList::default()))
    }

    fn referrers<'a>(&'a self, from: Supplier, _ask: &'a ReferrersAsk) -> Found<'a, ReferrersAnswer> {
        self.answer(from, Part::WHOLE, |_| Some(ReferrersAnswer::none()))
    }

    fn trusts(&self, supplier: Supplier) -> bool {
        !self.plain && supplier != Supplier::Upstream
    }

    fn facts(&self, _node: usize) -> Found<'_, TierFacts> {
        let facts = self.facts.lock().unwrap().clone();
        async move { facts.ok_or(Failure::Unable) }.boxed()
    }

    fn authorization<'a>(
        &'a self,
        node: usize,
        _repository: &'a Repository,
        deadline: Duration,
    ) -> Found<'a, SourceAuthorization> {
        self.lenders_asked.lock().unwrap().push(node);
        let lent = self.lent.lock().unwrap().clone();
        async move {
            match lent {
                Some(answer) => answer,
                None => timeout(deadline, pending()).await.unwrap_or(Err(Failure::SourceSilent)),
            }
        }
        .boxed()
    }

    fn ping(&self, node: usize) -> BoxFuture<'_, bool> {
        let alive = matches!(
            self.behaviours.lock().unwrap().get(&Supplier::Node(node)),
            Some(Behaviour::Serves(_) | Behaviour::Answers(_))
        );
        async move { alive }.boxed()
    }
}
