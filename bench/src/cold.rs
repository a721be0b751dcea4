//! What a cold pull costs: the first byte's delay, requests at the source, bytes fetched twice when a node dies.

use std::io::Read;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sandbox::{Cluster, Relay, http, wait};
use serde::Serialize;
use tokio::time::Instant;

use crate::image::{self, Image, Layer, REPOSITORY};
use crate::statistics::median;

/// What kuik calls the source of cold images.
pub(crate) const HOST: &str = "cold.test";

/// Images for the first byte: one layer each, cold once.
const SMALL_IMAGES: usize = 16;
const SMALL_LAYER_BYTES: u64 = 1_000_000;
/// One image for many clients at once, one for the death of a node.
const BIG_IMAGES: usize = 2;
const BIG_LAYER_BYTES: u64 = 200_000_000;
const SOURCE_BYTES_PER_SECOND: u64 = 20_000_000;
const CLIENTS: usize = 64;

/// By then a fill is reported by the node that does it.
const FILL_DEADLINE: Duration = Duration::from_secs(10);

/// A cluster with a source on a wire that can be slowed and counts.
pub(crate) struct Cold {
    pub(crate) cluster: Cluster,
    pub(crate) relay: Relay,
    pub(crate) images: Vec<Image>,
}

/// What the cold measurements came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ColdFigures {
    /// Median over blobs that nobody had: first byte through the proxy, less the source's own median.
    pub(crate) first_byte_added_milliseconds: f64,
    /// Requests for the blob that the source saw from all clients together.
    pub(crate) source_gets: u32,
    /// Bytes beyond the blob's own that crossed the wire when the fetching node was killed halfway.
    pub(crate) fetched_twice_percent: f64,
}

/// Puts the cold images into the source. Nobody asks for one before its turn: from then on it is filled in the
/// background.
pub(crate) fn push(authority: &str) -> Result<Vec<Image>> {
    let small = std::iter::repeat_n(SMALL_LAYER_BYTES, SMALL_IMAGES);
    let sizes = small.chain(std::iter::repeat_n(BIG_LAYER_BYTES, BIG_IMAGES));
    // The tag's number makes a size, and so the noise, different from the others.
    sizes
        .zip(0..)
        .map(|(size, n)| image::push(&format!("cold-{n}"), &[size + n], authority))
        .collect()
}

/// Measures all of it. Kills a node at the end.
pub(crate) fn run(cold: &Cold) -> Result<ColdFigures> {
    let (small, big) = cold.images.split_at(SMALL_IMAGES);
    eprintln!("cold: first byte");
    let first_byte_added_milliseconds = first_byte_added(cold, small)?;
    cold.relay.set_rate(Some(SOURCE_BYTES_PER_SECOND));
    eprintln!("cold: {CLIENTS} clients at once");
    let source_gets = ask_from_everywhere(cold, &big[0])?;
    eprintln!("cold: a node dies midway");
    let fetched_twice_percent = kill_midway(cold, &big[1])?;
    Ok(ColdFigures {
        first_byte_added_milliseconds,
        source_gets,
        fetched_twice_percent,
    })
}

impl Cold {
    fn base(&self, url: &str) -> String {
        format!("{url}/v2/{HOST}/{REPOSITORY}")
    }

    /// Asks for the manifest, as every client does before it asks for a layer.
    fn learn(&self, image: &Image) -> Result<()> {
        let url = format!("{}/manifests/{}", self.base(self.cluster.proxy_url()), image.manifest);
        http::get_bytes(&url).context("learn of a cold image").map(drop)
    }

    fn gets(&self, layer: &Layer) -> usize {
        let lines = self.relay.requests(&format!("blobs/{}", layer.digest));
        lines.iter().filter(|line| line.starts_with("GET")).count()
    }
}

fn first_byte_added(cold: &Cold, images: &[Image]) -> Result<f64> {
    let (mut own, mut through) = (Vec::new(), Vec::new());
    for image in images {
        cold.learn(image)?;
        let layer = &image.layers[0];
        let through_proxy = format!("{}/blobs/{}", cold.base(cold.cluster.proxy_url()), layer.digest);
        through.push(first_byte_milliseconds(&through_proxy)?);
        let direct = format!("{}/v2/{REPOSITORY}/blobs/{}", cold.relay.url(), layer.digest);
        own.push(first_byte_milliseconds(&direct)?);
    }
    Ok(median(&through) - median(&own))
}

fn first_byte_milliseconds(url: &str) -> Result<f64> {
    let started = Instant::now();
    let mut response = http::get(url)?;
    ensure!(response.status == 200, "{url}: status {}", response.status);
    response.body.read_exact(&mut [0]).context("read a first byte")?;
    let elapsed = started.elapsed();
    response.bytes().with_context(|| format!("read {url}"))?;
    Ok(elapsed.as_secs_f64() * 1000.0)
}

fn ask_from_everywhere(cold: &Cold, image: &Image) -> Result<u32> {
    cold.learn(image)?;
    let layer = &image.layers[0];
    let nodes = cold.cluster.nodes().iter().map(|node| node.url.as_str());
    let urls: Vec<String> = nodes
        .chain([cold.cluster.proxy_url()])
        .map(|url| format!("{}/blobs/{}", cold.base(url), layer.digest))
        .collect();
    thread::scope(|scope| {
        let clients: Vec<_> = urls
            .iter()
            .cycle()
            .take(CLIENTS)
            .map(|url| scope.spawn(|| checked(url, layer)))
            .collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().unwrap_or_else(|_| bail!("a client panicked")))
    })?;
    u32::try_from(cold.gets(layer)).context("a number of requests")
}

fn checked(url: &str, layer: &Layer) -> Result<()> {
    let found = http::digest_of(url)?;
    ensure!(found == layer.digest.as_str(), "{url}: bytes of {found}");
    Ok(())
}

fn kill_midway(cold: &Cold, image: &Image) -> Result<f64> {
    let layer = &image.layers[0];
    let before = cold.relay.answer_bytes();
    cold.learn(image)?;
    let url = format!("{}/blobs/{}", cold.base(cold.cluster.proxy_url()), layer.digest);
    thread::scope(|scope| {
        let client = scope.spawn(|| checked(&url, layer));
        let fetching = wait::until(FILL_DEADLINE, "a node to fetch", || Ok(fetching_node(cold, layer)))?;
        wait::until(FILL_DEADLINE, "half of a blob", || {
            Ok((cold.relay.answer_bytes() - before > layer.size_bytes / 2).then_some(()))
        })?;
        cold.cluster.kill(fetching)?;
        client.join().unwrap_or_else(|_| bail!("the client panicked"))
    })?;
    let crossed = cold.relay.answer_bytes() - before;
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 bytes")]
    let percent = crossed.saturating_sub(layer.size_bytes) as f64 / layer.size_bytes as f64 * 100.0;
    Ok(percent)
}

fn fetching_node(cold: &Cold, layer: &Layer) -> Option<usize> {
    (0..cold.cluster.nodes().len()).find(|node| {
        let fills = cold
            .cluster
            .node_status(*node)
            .map(|status| status.fills)
            .unwrap_or_default();
        fills
            .iter()
            .any(|fill| fill.digest == layer.digest.as_str() && fill.source == "upstream")
    })
}
