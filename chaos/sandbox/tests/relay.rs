//! The faulty wire by itself: a fault that does not happen would make every test of faults pass.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::io::Read;
use std::time::Duration;

use sandbox::{Fault, Relay, SourceRegistry, http, image};
use tokio::time::Instant;

const PATH: &str = "/v2/library/app/manifests/1";

fn wire() -> (SourceRegistry, Relay) {
    let source = SourceRegistry::start().unwrap();
    let relay = Relay::start(&source.authority()).unwrap();
    (source, relay)
}

#[test]
fn without_a_fault_nothing_changes_and_requests_are_counted() {
    let (source, relay) = wire();
    let expected = image::digests(&source.url(), "library/app:1").unwrap();
    assert_eq!(image::digests(&relay.url(), "library/app:1").unwrap(), expected);
    assert_eq!(relay.requests("GET /v2/library/app/manifests/1 ").len(), 1);
    assert_eq!(relay.requests("/blobs/").len(), expected.all.len() - 4);
}

#[test]
fn a_rate_holds_for_all_connections_together() {
    let (_source, relay) = wire();
    let digest = image::largest_blob(&relay.url(), "library/app:1").unwrap().0;
    let url = format!("{}/v2/library/app/blobs/{digest}", relay.url());
    relay.set_rate(Some(5_000_000));
    let started = Instant::now();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || http::get_bytes(&url).unwrap().len())
        })
        .collect();
    let bytes: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    let least = Duration::from_secs_f64(bytes as f64 / 5_000_000.0 * 0.9);
    assert!(started.elapsed() > least, "{bytes} bytes in {:?}", started.elapsed());
}

#[test]
fn an_answer_can_be_cut_reset_and_corrupted() {
    let (_source, relay) = wire();
    let url = format!("{}{PATH}", relay.url());
    let whole = http::get_bytes(&url).unwrap();
    relay.set_fault(Fault::Reset);
    assert!(http::get(&url).is_err());
    relay.set_fault(Fault::CutAfter(0));
    assert!(http::get(&url).is_err());
    relay.set_fault(Fault::FlipBitAt(700));
    let corrupt = http::get_bytes(&url).unwrap();
    assert_eq!(corrupt.len(), whole.len());
    assert_ne!(corrupt, whole);
}

#[test]
fn silence_holds_an_answer_until_it_is_lifted() {
    let (_source, relay) = wire();
    let url = format!("{}{PATH}", relay.url());
    relay.set_fault(Fault::Silence);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| http::get_bytes(&url).unwrap());
        let looked = sandbox::wait::until(Duration::from_millis(400), "an answer", || {
            Ok(reader.is_finished().then_some(()))
        });
        assert!(looked.is_err(), "answered through silence");
        relay.set_fault(Fault::None);
        assert!(!reader.join().unwrap().is_empty());
    });
}

#[test]
fn silence_can_begin_in_the_middle_of_a_body() {
    let (_source, relay) = wire();
    let digest = image::largest_blob(&relay.url(), "library/app:1").unwrap().0;
    relay.set_fault(Fault::SilenceAfter(1_000_000));
    let url = format!("{}/v2/library/app/blobs/{digest}", relay.url());
    let mut response = http::get(&url).unwrap();
    let mut first = vec![0; 900_000];
    response.body.read_exact(&mut first).unwrap();
    relay.set_fault(Fault::None);
    let rest = response.bytes().unwrap();
    let whole = [first, rest].concat();
    assert_eq!(oci::Digest::sha256(&whole).to_string(), digest);
}
