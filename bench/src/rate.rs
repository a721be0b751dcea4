//! Small requests over several kept-alive connections, each asking again as soon as it has its answer.
//!
//! One thread drives all connections, so that the client takes as little as possible from the servers' cores, and the
//! same from each of them.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::contender::Contender;
use crate::image::Image;
use crate::statistics::percentile;

/// How long the connections run before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// An answer that takes longer ends the measurement.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Headers and a manifest together fit in this.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How manifests are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
}

/// What one round of requests came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Rate {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_milliseconds: f64,
    pub(crate) p99_milliseconds: f64,
}

/// Asks for the manifest over `connections` connections for `duration`.
pub(crate) fn measure(
    contender: &Contender,
    image: &Image,
    method: Method,
    connections: usize,
    duration: Duration,
) -> Result<Rate> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    let url = contender.manifest_url(image);
    let mut latencies = runtime
        .block_on(ask_from_all(&url, method, connections, duration))
        .with_context(|| format!("{method:?} manifests from {}", contender.name))?;
    ensure!(!latencies.is_empty(), "{} answered nothing", contender.name);
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
    let requests = latencies.len() as f64;
    Ok(Rate {
        requests_per_second: requests / duration.as_secs_f64(),
        p50_milliseconds: f64::from(percentile(&mut latencies, 0.5)) / 1000.0,
        p99_milliseconds: f64::from(percentile(&mut latencies, 0.99)) / 1000.0,
    })
}

/// The latency of each request that counts, in microseconds.
async fn ask_from_all(url: &str, method: Method, connections: usize, duration: Duration) -> Result<Vec<u32>> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + duration;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let connection = Connection::open(url, method).await?;
        tasks.spawn(ask_until(connection, begin, end));
    }
    let mut latencies = Vec::new();
    while let Some(result) = tasks.join_next().await {
        latencies.extend(result.context("a connection's task")??);
    }
    Ok(latencies)
}

async fn ask_until(mut connection: Connection, begin: Instant, end: Instant) -> Result<Vec<u32>> {
    let mut latencies = Vec::new();
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(latencies);
        }
        timeout(ANSWER_DEADLINE, connection.ask())
            .await
            .context("no answer in time")??;
        if started >= begin {
            latencies.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    method: Method,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(url: &str, method: Method) -> Result<Self> {
        let rest = url.strip_prefix("http://").context("a plain URL")?;
        let (authority, path) = rest.split_once('/').context("a URL with a path")?;
        let stream = TcpStream::connect(authority)
            .await
            .with_context(|| format!("connect to {authority}"))?;
        stream.set_nodelay(true).context("set nodelay")?;
        let verb = match method {
            Method::Get => "GET",
            Method::Head => "HEAD",
        };
        let request = format!(
            "{verb} /{path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: bench\r\n\
             Accept: application/vnd.oci.image.manifest.v1+json\r\n\r\n"
        );
        Ok(Self {
            stream,
            request: request.into_bytes(),
            method,
            buffer: vec![0; ANSWER_BYTES_MAX],
        })
    }

    /// One request and its whole answer.
    async fn ask(&mut self) -> Result<()> {
        self.stream.write_all(&self.request).await.context("send a request")?;
        let mut filled = 0;
        loop {
            ensure!(filled < self.buffer.len(), "an answer over {ANSWER_BYTES_MAX} bytes");
            match self
                .stream
                .read(&mut self.buffer[filled..])
                .await
                .context("read an answer")?
            {
                0 => bail!("the connection was closed"),
                n => filled += n,
            }
            if let Some(length) = answer_length(&self.buffer[..filled], self.method)? {
                ensure!(filled <= length, "more bytes than the answer has");
                if filled == length {
                    return Ok(());
                }
            }
        }
    }
}

/// The bytes of the whole answer, once its headers are there.
fn answer_length(bytes: &[u8], method: Method) -> Result<Option<usize>> {
    let Some(head_length) = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
    else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..head_length]).context("headers that are not text")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "answered {:?}", head.lines().next());
    if method == Method::Head {
        return Ok(Some(head_length));
    }
    let body_length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    Ok(Some(head_length + body_length.context("an answer without a length")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(answer_length(answer, Method::Get).unwrap(), Some(answer.len()));
        assert_eq!(answer_length(answer, Method::Head).unwrap(), Some(answer.len() - 5));
        assert_eq!(answer_length(&answer[..20], Method::Get).unwrap(), None);
    }

    #[test]
    fn any_other_status_ends_the_measurement() {
        assert!(answer_length(b"HTTP/1.1 404 Not Found\r\n\r\n", Method::Get).is_err());
        assert!(answer_length(b"HTTP/1.1 200 OK\r\n\r\n", Method::Get).is_err());
    }
}
