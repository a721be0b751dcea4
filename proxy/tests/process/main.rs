//! The program `kuik-proxy`: how it starts, what it refuses, and when it ends.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod handover;
mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use program::{check, free_address, start, start_within, until};

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn refused(config: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start(directory.path(), config);
    let status = until(|| child.try_wait().unwrap());
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let error = lines
        .map(Result::unwrap)
        .find(|line| line.contains("error"))
        .unwrap_or_default();
    (status.code(), error)
}

#[test]
fn it_serves_soon_and_ends_with_its_parent() {
    let directory = tempfile::tempdir().unwrap();
    let (listen, admin) = (free_address(), free_address());
    let started = Instant::now();
    let mut child = start(
        directory.path(),
        &format!("listen = [\"{listen}\"]\nadmin = \"{admin}\"\n"),
    );
    let answer = until(|| get(listen, "/v2/"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let ready = until(|| get(admin, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200")));
    assert!(ready.ends_with("ready\n"), "{ready}");
    let metrics = get(admin, "/metrics").unwrap();
    assert!(metrics.contains("kube_image_keeper_proxy_requests_total"), "{metrics}");
    // Under v1's names; nobody is there to answer.
    get(listen, "/v2/127.0.0.1/a/manifests/v1");
    let metrics = get(admin, "/metrics").unwrap();
    for line in [
        "kube_image_keeper_proxy_http_requests_total{registry=\"127.0.0.1\",statusCode=\"403\",cacheHit=\"false\"} 1",
        "kube_image_keeper_proxy_build_info{version=",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    drop(child.stdin.take());
    let status = until(|| child.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert!(
        TcpStream::connect(listen).is_err(),
        "runtimes go to their next host at once"
    );
}

/// Takes one connection after the other, closes them, and tells the first line that came on each.
fn first_lines(listener: TcpListener) -> mpsc::Receiver<String> {
    let (told, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut line = String::new();
            // A connection without a line is nobody who asks.
            let read = BufReader::new(stream.unwrap()).read_line(&mut line);
            if read.is_err() || told.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

// Defect 24 of v1: with a way out through an HTTP proxy, its proxies looked for the cache there too, unless told otherwise.
#[test]
fn cache_nodes_are_asked_directly_whatever_the_way_out_is() {
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (node, way_out) = (listen(), listen());
    let (listen, out) = (free_address(), way_out.local_addr().unwrap());
    let config = format!(
        "listen = [\"{listen}\"]\n[[nodes]]\nordinal = 0\nregistry = \"http://{}\"\n",
        node.local_addr().unwrap()
    );
    let environment = ["http_proxy", "https_proxy", "all_proxy"].map(|name| (name, format!("http://{out}")));
    let directory = tempfile::tempdir().unwrap();
    let mut child = start_within(directory.path(), &config, &environment);
    let (node, way_out) = (first_lines(node), first_lines(way_out));
    let target = "/v2/quay.example/a/b/manifests/v1";
    until(|| get(listen, target));
    let asked = until(|| node.try_recv().ok().filter(|line| line.contains("manifests")));
    assert!(asked.contains(" /v2/"), "{asked}");
    for line in way_out.try_iter().chain([until(|| way_out.try_recv().ok())]) {
        assert!(
            line.starts_with("CONNECT quay.example:443 "),
            "the source alone: {line}"
        );
    }
    drop(child.stdin.take());
    until(|| child.try_wait().unwrap());
}

#[test]
fn a_wrong_configuration_is_told_in_one_line() {
    let (code, error) = refused("listen = [\"127.0.0.1:0\"]\nlisen = 1\n");
    assert_eq!(code, Some(2));
    assert!(error.contains("lisen") && error.contains("line 2"), "{error}");
    let (code, error) =
        refused("listen = [\"127.0.0.1:0\"]\n[tls]\nca = \"/no/ca\"\ncert = \"/no/cert\"\nkey = \"/no/key\"\n");
    assert_eq!(code, Some(2));
    assert!(error.contains("/no/"), "{error}");
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (code, error) = refused(&format!("listen = [\"{address}\"]\n"));
    assert_eq!(code, Some(1));
    assert!(
        error.contains(&address.to_string()) && error.contains("taken"),
        "{error}"
    );
}

#[test]
fn a_check_is_quick_and_says_whether_the_proxy_runs() {
    let directory = tempfile::tempdir().unwrap();
    let listen = free_address();
    // The node is nobody: what it says about itself must not depend on the tier.
    let config = format!(
        "listen = [\"{listen}\"]\ncheck_socket = {:?}\n[[nodes]]\nordinal = 0\nregistry = \"http://{}\"\n",
        directory.path().join("proxy.sock"),
        free_address(),
    );
    let mut child = start(directory.path(), &config);
    until(|| (check(directory.path()).0 == Some(0)).then_some(()));
    let fastest = (0..10).map(|_| {
        let started = Instant::now();
        assert_eq!(check(directory.path()), (Some(0), String::new()));
        started.elapsed()
    });
    let fastest = fastest.min().unwrap();
    assert!(fastest < Duration::from_millis(20), "{fastest:?}");

    drop(child.stdin.take());
    until(|| child.try_wait().unwrap());
    let (code, error) = check(directory.path());
    assert_eq!(code, Some(1));
    assert!(
        error.contains("no proxy answers") && error.lines().count() == 1,
        "{error}"
    );
}
