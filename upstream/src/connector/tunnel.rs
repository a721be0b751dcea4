//! `CONNECT`: a tunnel through an HTTP proxy. Source: RFC 9110 section 9.3.6.

use std::io;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A proxy's answer to `CONNECT` is a few lines; more is no such answer.
const ANSWER_BYTES_MAX: usize = 8192;

/// Asks the proxy at the other end of `stream` for a tunnel to `authority` (`host:port`).
///
/// The answer is read byte by byte up to its end, so that nothing of the tunnel itself is taken.
pub(super) async fn open<S>(stream: &mut S, authority: &str, authorization: Option<&HeaderValue>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(authorization) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    check(&read_head(stream).await?)
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == ANSWER_BYTES_MAX {
            return Err(io::Error::other("the proxy's answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

fn check(head: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(head);
    let line = text.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(status) if line.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') => Ok(()),
        Some("407") => Err(io::Error::other("the proxy asks for other credentials (407)")),
        _ => Err(io::Error::other(format!("the proxy answered {line:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &'static [u8]) -> (io::Result<()>, Vec<u8>) {
        let (mut ours, mut proxy) = tokio::io::duplex(ANSWER_BYTES_MAX * 2);
        proxy.write_all(answer).await.unwrap();
        let authorization = HeaderValue::from_static("Basic eDp5");
        let opened = open(&mut ours, "reg.example:443", Some(&authorization)).await;
        drop(ours);
        let mut request = Vec::new();
        proxy.read_to_end(&mut request).await.unwrap();
        (opened, request)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_with_the_proxys_credentials() {
        let (opened, request) = answered(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await;
        opened.unwrap();
        let expected =
            "CONNECT reg.example:443 HTTP/1.1\r\nHost: reg.example:443\r\nProxy-Authorization: Basic eDp5\r\n\r\n";
        assert_eq!(String::from_utf8(request).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_quoted() {
        let (opened, _) = answered(b"HTTP/1.1 403 Forbidden\r\n\r\n").await;
        assert!(opened.unwrap_err().to_string().contains("403 Forbidden"));
        let (opened, _) = answered(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        assert!(opened.unwrap_err().to_string().contains("407"));
        let (opened, _) = answered(b"nonsense\r\n\r\n").await;
        assert!(opened.is_err());
    }
}
