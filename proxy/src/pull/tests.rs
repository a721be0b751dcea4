//! Stories of pulls over scripted suppliers, on tokio's paused time.

mod bodies;
mod lending;
mod manifests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use distribution::Source;
use oci::{ByteRange, Digest, RangeHeader, Repository};

use super::*;
use crate::supply::scripted::{Behaviour, Break, Script, ScriptedSupply};

const NODES: usize = 3;

fn pull_over(supply: ScriptedSupply) -> Arc<Pull<ScriptedSupply>> {
    let metrics = Metrics::new(NODES);
    Arc::new(Pull {
        supply,
        ring: Ring::new((0..NODES as u32).collect()),
        standing: Standing::new(NODES, metrics.clone()),
        tokens: TagTokens::default(),
        loans: Arc::new(Loans::new().0),
        metrics,
        next_host_limit: Duration::from_secs(3),
    })
}

fn pull() -> Arc<Pull<ScriptedSupply>> {
    pull_over(ScriptedSupply::default())
}

fn repository() -> Repository {
    Repository::new("quay.io".parse().unwrap(), "a/b".parse().unwrap())
}

fn content(length: usize) -> Bytes {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}

impl Pull<ScriptedSupply> {
    /// The nodes in the order a blob's request asks them.
    fn nodes_for(&self, body: &Bytes) -> Vec<Supplier> {
        let order = self.ring.order(&placement::digest_key(&Digest::sha256(body)));
        order.into_iter().map(Supplier::Node).collect()
    }

    fn serve(&self, supplier: Supplier, script: Script) {
        self.supply.set(supplier, Behaviour::Serves(script));
    }
}

/// What a client that reads to the end gets: the bytes, and whether the end was clean.
async fn fetch(
    pull: &Arc<Pull<ScriptedSupply>>,
    body: &Bytes,
    range: Option<&str>,
    patience: Patience,
) -> Result<(Bytes, Result<(), Refusal>), Refusal> {
    let ask = BlobAsk {
        repository: repository(),
        digest: Digest::sha256(body),
    };
    let range = range.map(|range| RangeHeader::parse(range).unwrap());
    let (stat, mut found) = pull.blob(ask, range, patience).await?;
    let chosen = range
        .zip(stat.size)
        .and_then(|(range, size)| match range.resolve(size) {
            ResolvedRange::Partial(range) => Some(range),
            ResolvedRange::Full | ResolvedRange::Unsatisfiable => None::<ByteRange>,
        });
    found.select(chosen);
    let mut got = Vec::new();
    loop {
        match found.next().await {
            Ok(Some(bytes)) => got.extend_from_slice(&bytes),
            Ok(None) => return Ok((got.into(), Ok(()))),
            Err(refusal) => return Ok((got.into(), Err(refusal))),
        }
    }
}

async fn fetch_whole(pull: &Arc<Pull<ScriptedSupply>>, body: &Bytes) -> (Bytes, Result<(), Refusal>) {
    fetch(pull, body, None, Patience::AsLongAsItTakes).await.unwrap()
}

fn from(start: u64) -> Part {
    Part { start, end: None }
}
