//! One blob over one connection, as fast as it comes.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use oci::Digest;
use sandbox::http;
use serde::Serialize;
use tokio::time::Instant;

use crate::contender::Contender;
use crate::image::Image;

const BUFFER_BYTES: usize = 1024 * 1024;
const GIBIBYTE: f64 = 1024.0 * 1024.0 * 1024.0;

/// What one download cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) gigabytes_per_second: f64,
    pub(crate) cpu_seconds_per_gibibyte: f64,
}

/// Downloads the blob once, without looking at its bytes: they are checked by [`verify`].
pub(crate) fn measure(contender: &Contender, image: &Image) -> Result<Throughput> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let cpu_before = contender.cpu_seconds()?;
    let started = Instant::now();
    let mut response = http::get(&contender.blob_url(image))?;
    ensure!(response.status == 200, "{}: status {}", contender.name, response.status);
    let mut received: u64 = 0;
    loop {
        match response
            .body
            .read(&mut buffer)
            .with_context(|| format!("read from {}", contender.name))?
        {
            0 => break,
            n => received += n as u64,
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = contender.cpu_seconds()? - cpu_before;
    ensure!(
        received == image.layers[0].size_bytes,
        "{}: {received} bytes",
        contender.name
    );
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
    let bytes = received as f64;
    Ok(Throughput {
        gigabytes_per_second: bytes / 1e9 / seconds,
        cpu_seconds_per_gibibyte: cpu_seconds / (bytes / GIBIBYTE),
    })
}

/// Downloads the blob and the manifest once and checks every byte. This also warms caches.
pub(crate) fn verify(contender: &Contender, image: &Image) -> Result<()> {
    for (url, digest) in [
        (contender.manifest_url(image), &image.manifest),
        (contender.blob_url(image), &image.layers[0].digest),
    ] {
        let mut verifier = digest.verifier().context("a digest that can be verified")?;
        let mut response = http::get(&url)?;
        ensure!(
            response.status == 200,
            "{}: status {} for {url}",
            contender.name,
            response.status
        );
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match response.body.read(&mut buffer).with_context(|| format!("read {url}"))? {
                0 => break,
                n => verifier.update(&buffer[..n]),
            }
        }
        verifier
            .finish()
            .with_context(|| format!("{}: wrong bytes for {}", contender.name, Digest::as_str(digest)))?;
    }
    Ok(())
}
