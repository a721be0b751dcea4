//! A source registry in this process that misbehaves on the wire as a story says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How the registry answers everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manner {
    Works,
    /// Takes connections and says nothing.
    Silent,
    /// Answers with this head, without a body.
    Says(&'static str),
    /// Sends the blob with the byte at this offset flipped.
    Flips(usize),
}

struct Content {
    blob: Bytes,
    manifest: Bytes,
    manner: Mutex<Manner>,
    asked: Mutex<Vec<String>>,
}

pub(crate) struct SourceRegistry {
    pub(crate) address: SocketAddr,
    content: Arc<Content>,
    _accepting: JoinSet<()>,
}

impl SourceRegistry {
    pub(crate) async fn start(blob: Bytes, manifest: Bytes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let content = Arc::new(Content {
            blob,
            manifest,
            manner: Mutex::new(Manner::Works),
            asked: Mutex::default(),
        });
        let mut accepting = JoinSet::new();
        let shared = Arc::clone(&content);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            content,
            _accepting: accepting,
        }
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.content.manner.lock().unwrap() = manner;
    }

    /// Request lines so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.content.asked.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, content: Arc<Content>) {
    let mut read = Vec::new();
    loop {
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else {
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        read.drain(..end + 4);
        let line = head.lines().next().unwrap_or_default().to_owned();
        content.asked.lock().unwrap().push(line.clone());
        let manner = content.manner.lock().unwrap().clone();
        let answer = match manner {
            Manner::Silent => std::future::pending().await,
            Manner::Says(head) => format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n").into_bytes(),
            Manner::Works => content.answer(&line, &head, None),
            Manner::Flips(at) => content.answer(&line, &head, Some(at)),
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

impl Content {
    fn answer(&self, line: &str, head: &str, flips: Option<usize>) -> Vec<u8> {
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (blob, manifest) = (Digest::sha256(&self.blob), Digest::sha256(&self.manifest));
        let (mut body, digest, kind) = if path.ends_with(&format!("/blobs/{blob}")) {
            (self.blob.to_vec(), blob, "application/octet-stream")
        } else if path.ends_with(&format!("/manifests/{manifest}")) || path.ends_with("/manifests/v1") {
            (
                self.manifest.to_vec(),
                manifest,
                "application/vnd.oci.image.manifest.v1+json",
            )
        } else if path == "/v2/" {
            return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec();
        } else {
            return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec();
        };
        if let Some(byte) = flips.and_then(|at| body.get_mut(at)) {
            *byte ^= 1;
        }
        let total = body.len();
        let range = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("range: bytes=")
                .map(str::to_owned)
        });
        let start = range.and_then(|range| range.split('-').next()?.parse::<usize>().ok());
        let status = match start {
            Some(start) if start >= total => {
                return format!("HTTP/1.1 416 x\r\ncontent-range: bytes */{total}\r\ncontent-length: 0\r\n\r\n")
                    .into_bytes();
            }
            Some(start) => {
                body.drain(..start);
                format!(
                    "206 Partial Content\r\ncontent-range: bytes {start}-{}/{total}",
                    total - 1
                )
            }
            None => "200 OK".to_owned(),
        };
        let length = body.len();
        let mut answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ndocker-content-digest: {digest}\r\ncontent-length: {length}\r\n\r\n"
        )
        .into_bytes();
        if method == "GET" {
            answer.extend_from_slice(&body);
        }
        answer
    }
}
