//! A client that shows exactly what came over the wire: status, headers, bytes, and whether the body was whole.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No story takes longer; a hang fails its test instead of holding it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A response as it was read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body ended where its framing said it would.
    pub(crate) whole: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A response whose body is read when the test says so.
pub(crate) struct Open {
    stream: TcpStream,
    pub(crate) head: Reply,
    is_head: bool,
}

impl Open {
    /// Reads at least `n_bytes` of the body.
    pub(crate) async fn read_at_least(&mut self, n_bytes: usize) {
        while self.head.body.len() < n_bytes {
            let n = timeout(PATIENCE, self.stream.read_buf(&mut self.head.body))
                .await
                .unwrap()
                .unwrap();
            assert_ne!(n, 0, "ended after {} bytes", self.head.body.len());
        }
    }

    /// Reads to the end.
    pub(crate) async fn finish(mut self) -> Reply {
        // A reset is an end like another: what counts is whether the body was whole.
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut self.head.body))
            .await
            .unwrap();
        let expected = self
            .head
            .header("content-length")
            .and_then(|length| length.parse::<usize>().ok());
        if self.head.header("transfer-encoding") == Some("chunked") {
            (self.head.body, self.head.whole) = unchunk(&self.head.body);
        } else {
            self.head.whole = self.is_head || expected == Some(self.head.body.len());
        }
        self.head
    }
}

/// Sends a request and reads the response's head.
pub(crate) async fn open(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Open {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let n = timeout(PATIENCE, stream.read_buf(&mut read)).await.unwrap().unwrap();
        assert_ne!(n, 0, "no response to {method} {path}");
    };
    let head = String::from_utf8(read[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        line.split_once(": ")
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
    };
    let headers = lines.filter_map(header).collect();
    let head = Reply {
        status,
        headers,
        body: read[end + 4..].to_vec(),
        whole: false,
    };
    Open {
        stream,
        head,
        is_head: method == "HEAD",
    }
}

/// Sends a request and reads everything.
pub(crate) async fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    open(address, method, path, headers).await.finish().await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Reply {
    request(address, "GET", path, &[]).await
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else {
            return (body, false);
        };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            return (body, true);
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..rest.len().min(size)]);
            return (body, false);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}
