//! A small blocking HTTP/1.1 client that shows what is on the wire: the test decides when each byte is read.
//!
//! Plain HTTP on loopback only, one connection per request, no redirects. A body that ends before its length or its
//! last chunk is an error, as it is for every real client.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

/// Nothing here may stay silent for longer: past the 30 s after which a pull without progress ends.
const SILENCE_MAX: Duration = Duration::from_secs(45);

const DIGEST_BUFFER_BYTES: usize = 256 * 1024;

/// What registry clients accept for a manifest.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// An answer whose headers have arrived.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Body,
}

impl Response {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// If the body is cut short.
    pub fn bytes(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes).context("read a body")?;
        Ok(bytes)
    }
}

/// GETs a URL.
///
/// # Errors
/// If no answer arrives.
pub fn get(url: &str) -> Result<Response> {
    request("GET", url, &[("Accept", MANIFEST_TYPES)])
}

/// GETs a URL and its whole body, which must come with status 200.
///
/// # Errors
/// If any other answer arrives, with the body.
pub fn get_bytes(url: &str) -> Result<Vec<u8>> {
    let response = get(url)?;
    let status = response.status;
    let bytes = response.bytes().with_context(|| format!("GET {url}"))?;
    if status != 200 {
        bail!("GET {url}: {status}: {}", String::from_utf8_lossy(&bytes));
    }
    Ok(bytes)
}

/// GETs a URL and hashes its whole body, which must come with status 200.
///
/// # Errors
/// If any other answer arrives, or the body is cut short.
pub fn digest_of(url: &str) -> Result<String> {
    let mut response = get(url)?;
    if response.status != 200 {
        bail!("GET {url}: {}", response.status);
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; DIGEST_BUFFER_BYTES];
    loop {
        match response.body.read(&mut buffer).with_context(|| format!("GET {url}"))? {
            0 => return Ok(format!("sha256:{}", hex(&hash.finalize()))),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends a request without a body.
///
/// # Errors
/// If no answer arrives, or one that is not HTTP.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let (authority, path) = split(url)?;
    let mut stream = TcpStream::connect(authority).with_context(|| format!("connect to {authority}"))?;
    stream.set_read_timeout(Some(SILENCE_MAX)).context("set a timeout")?;
    stream.set_nodelay(true).context("set nodelay")?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream
        .write_all(head.as_bytes())
        .with_context(|| format!("send to {authority}"))?;
    read_response(method, BufReader::new(stream)).with_context(|| format!("{method} {url}"))
}

fn split(url: &str) -> Result<(&str, &str)> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("not a plain URL: {url}"))?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    Ok((authority, if path.is_empty() { "/" } else { path }))
}

fn read_response(method: &str, mut reader: BufReader<TcpStream>) -> Result<Response> {
    let first = read_line(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status: u16 = status.with_context(|| format!("not a status line: {first:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut reader)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut response = Response {
        status,
        headers,
        body: Body {
            reader,
            left: Left::ToClose,
        },
    };
    response.body.left = if method == "HEAD" || status == 204 || status == 304 {
        Left::Length(0)
    } else if response
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        Left::Chunks { in_chunk: 0 }
    } else if let Some(length) = response.header("content-length") {
        Left::Length(length.parse().with_context(|| format!("content-length {length:?}"))?)
    } else {
        Left::ToClose
    };
    Ok(response)
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// A body being read. The end of data is only reported where the answer says it is.
#[derive(Debug)]
pub struct Body {
    reader: BufReader<TcpStream>,
    left: Left,
}

#[derive(Debug)]
enum Left {
    Length(u64),
    Chunks { in_chunk: u64 },
    Ended,
    ToClose,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.left {
            Left::Ended | Left::Length(0) => Ok(0),
            Left::ToClose => self.reader.read(buffer),
            Left::Length(left) => {
                let n = self.read_within(buffer, left)?;
                self.left = Left::Length(left - n as u64);
                Ok(n)
            }
            Left::Chunks { in_chunk: 0 } => self.next_chunk(buffer),
            Left::Chunks { in_chunk } => {
                let n = self.read_within(buffer, in_chunk)?;
                let in_chunk = in_chunk - n as u64;
                if in_chunk == 0 {
                    read_line(&mut self.reader)?;
                }
                self.left = Left::Chunks { in_chunk };
                Ok(n)
            }
        }
    }
}

impl Body {
    fn read_within(&mut self, buffer: &mut [u8], limit: u64) -> io::Result<usize> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(buffer.len());
        match self.reader.read(&mut buffer[..limit])? {
            0 if limit > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => Ok(n),
        }
    }

    fn next_chunk(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = read_line(&mut self.reader)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if size > 0 {
            self.left = Left::Chunks { in_chunk: size };
            return self.read(buffer);
        }
        while !read_line(&mut self.reader)?.is_empty() {}
        self.left = Left::Ended;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes and closes.
    fn answer(bytes: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !read_line(&mut reader).unwrap().is_empty() {}
            stream.write_all(bytes.as_bytes()).unwrap();
        });
        url
    }

    #[test]
    fn bodies_with_a_length_and_in_chunks_are_read_whole() {
        let plain = answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(get_bytes(&plain).unwrap(), b"hello");
        let chunked = answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
        assert_eq!(get_bytes(&chunked).unwrap(), b"hello");
    }

    #[test]
    fn a_body_cut_short_is_an_error() {
        assert!(get_bytes(&answer("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello")).is_err());
        assert!(
            get_bytes(&answer(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            ))
            .is_err()
        );
    }
}
