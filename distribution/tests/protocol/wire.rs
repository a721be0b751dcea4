//! An HTTP client that hides nothing: raw requests out, answers in as they were framed.

use std::net::SocketAddr;
use std::time::Duration;

use oci::{ErrorCode, ErrorDocument};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection ended before the body did.
    pub(crate) cut: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "{name} is sent once");
        first
    }

    /// The one error of an error document.
    pub(crate) fn error(&self) -> ErrorCode {
        assert!(self.status >= 400);
        assert_eq!(self.header("content-type"), Some("application/json"));
        let document: ErrorDocument = serde_json::from_slice(&self.body).unwrap();
        assert!(!document.errors[0].message.is_empty());
        document.errors[0].code
    }
}

pub(crate) async fn get(address: SocketAddr, target: &str) -> Answer {
    ask(address, "GET", target, &[]).await
}

pub(crate) async fn head(address: SocketAddr, target: &str) -> Answer {
    ask(address, "HEAD", target, &[]).await
}

pub(crate) async fn ask(address: SocketAddr, method: &str, target: &str, headers: &[&str]) -> Answer {
    let mut wire = Wire::connect(address).await;
    wire.request(method, target, headers).await;
    wire.answer_to(method).await
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn request(&mut self, method: &str, target: &str, headers: &[&str]) {
        let mut text = format!("{method} {target} HTTP/1.1\r\nhost: registry\r\n");
        for header in headers {
            text += header;
            text += "\r\n";
        }
        self.send((text + "\r\n").as_bytes()).await;
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        timeout(DEADLINE, self.read_answer(method))
            .await
            .expect("an answer in time")
    }

    /// Whether the server closes the connection without another byte.
    pub(crate) async fn closed(&mut self) -> bool {
        assert!(
            self.buffer.is_empty(),
            "unread: {:?}",
            String::from_utf8_lossy(&self.buffer)
        );
        let mut byte = [0];
        !matches!(timeout(DEADLINE, self.stream.read(&mut byte)).await.expect("an end in time"), Ok(n) if n > 0)
    }

    /// Reads some more bytes; false at the end of the connection, clean or not.
    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(n) if n > 0)
    }

    /// Reads the head of an answer and leaves its body to the caller, who first finds [`Self::buffered`] bytes taken.
    pub(crate) async fn head(&mut self) -> Answer {
        timeout(DEADLINE, self.read_head()).await.expect("a head in time")
    }

    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    async fn read_head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(
                self.fill().await,
                "no whole head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        parse_head(std::str::from_utf8(&head).unwrap())
    }

    async fn read_answer(&mut self, method: &str) -> Answer {
        let mut answer = self.read_head().await;
        let bodiless = method == "HEAD" || answer.status == 304 || answer.status < 200;
        let length = answer.header("content-length").map(|length| length.parse().unwrap());
        if bodiless {
        } else if answer.header("transfer-encoding") == Some("chunked") {
            assert_eq!(length, None);
            answer.cut = !self.read_chunks(&mut answer.body).await;
        } else if let Some(length) = length {
            answer.cut = !self.read_exactly(length, &mut answer.body).await;
        } else {
            while self.fill().await {}
            answer.body.append(&mut self.buffer);
        }
        answer
    }

    async fn read_exactly(&mut self, length: usize, body: &mut Vec<u8>) -> bool {
        while self.buffer.len() < length {
            if !self.fill().await {
                body.append(&mut self.buffer);
                return false;
            }
        }
        body.extend(self.buffer.drain(..length));
        true
    }

    async fn read_chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") else {
                if self.fill().await {
                    continue;
                }
                return false;
            };
            let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16).unwrap();
            let mut chunk = Vec::new();
            if !self.read_exactly(size + 2, &mut chunk).await {
                body.append(&mut chunk);
                return false;
            }
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return true;
            }
        }
    }
}

fn parse_head(text: &str) -> Answer {
    let mut lines = text.trim_end().split("\r\n");
    let status = lines.next().unwrap().strip_prefix("HTTP/1.").unwrap()[2..5]
        .parse()
        .unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Answer {
        status,
        headers,
        body: Vec::new(),
        cut: false,
    }
}
