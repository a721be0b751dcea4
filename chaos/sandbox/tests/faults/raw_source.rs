//! A source registry that sends exactly the bytes of its story, which no registry library would.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Answers every manifest request with the same bytes, and everything else with 404. Ends with the test program.
pub(crate) fn start(media_type: &'static str, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that hangs up early is part of some stories.
            let _ = answer(stream, media_type, &body);
        }
    });
    url
}

fn answer(mut stream: TcpStream, media_type: &str, body: &[u8]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let is_manifest = first.contains("/manifests/");
    let status = if is_manifest { "200 OK" } else { "404 Not Found" };
    let body = if is_manifest { body } else { b"{}" };
    let digest = oci::Digest::sha256(body);
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\
         Docker-Content-Digest: {digest}\r\n\r\n",
        body.len()
    )?;
    if first.starts_with("HEAD") {
        return Ok(());
    }
    stream.write_all(body)
}
