//! Many clients ask for one cold blob at once.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::thread;
use std::time::Duration;

use sandbox::{Cluster, Fault, Relay, SourceRegistry, http, image};

const HOST: &str = "registry.test";
const CLIENTS: usize = 64;

struct Cold {
    _source: SourceRegistry,
    relay: Relay,
    cluster: Cluster,
    digest: String,
    size: u64,
}

/// A cluster that knows the image's manifest and none of its layers.
fn cold(name: &str, bytes_per_second: u64) -> Cold {
    let source = SourceRegistry::start().unwrap();
    let relay = Relay::start(&source.authority()).unwrap();
    let (digest, size) = image::largest_blob(&source.url(), name).unwrap();
    let cluster = Cluster::builder().upstream(HOST, &relay.url()).start().unwrap();
    relay.set_rate(Some(bytes_per_second));
    Cold {
        _source: source,
        relay,
        cluster,
        digest,
        size,
    }
}

impl Cold {
    /// All nodes and the proxy are asked by turns; every client gets the right bytes while `meanwhile` happens.
    fn ask_from_everywhere(&self, repository: &str, meanwhile: impl FnOnce()) {
        let nodes = self.cluster.nodes().iter().map(|node| node.url.clone());
        let urls: Vec<String> = nodes.chain([self.cluster.proxy_url().to_owned()]).collect();
        thread::scope(|scope| {
            let readers: Vec<_> = (0..CLIENTS)
                .map(|n| {
                    let url = format!("{}/v2/{HOST}/{repository}/blobs/{}", urls[n % urls.len()], self.digest);
                    scope.spawn(move || http::digest_of(&url).unwrap())
                })
                .collect();
            meanwhile();
            for reader in readers {
                assert_eq!(reader.join().unwrap(), self.digest);
            }
        });
    }

    fn assert_one_get(&self) {
        let seen = self.relay.timed_requests(&self.digest);
        let gets = seen.iter().filter(|(_, line)| line.starts_with("GET")).count();
        assert_eq!(gets, 1, "{seen:#?}");
    }
}

#[test]
fn the_source_sees_one_get_from_64_clients() {
    let cold = cold("library/big:1", 20_000_000);
    cold.ask_from_everywhere("library/big", || {});
    cold.assert_one_get();
}

#[test]
fn twenty_silent_seconds_do_not_raise_the_number_of_gets() {
    let cold = cold("library/app:1", 2_000_000);
    cold.ask_from_everywhere("library/app", || {
        cold.relay.set_fault(Fault::SilenceAfter(cold.size / 2));
        thread::sleep(Duration::from_secs(20));
        cold.relay.set_fault(Fault::None);
    });
    cold.assert_one_get();
}
