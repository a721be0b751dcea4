//! What is cached is answered in time and marked, whatever its source does.

use std::thread;
use std::time::Duration;

use oci::Digest;
use sandbox::{Cluster, http, image, wait};
use testkit::{FakeRegistry, Fault, Image, On, Stage, image as make};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::world::{ANSWERS_ARE_OLD, World, digests};

/// The 2 s after which a cached tag is answered without its source, and some for a busy machine.
const STALE_MAX: Duration = Duration::from_millis(3000);
/// A source that is known to be down is not waited for at all.
const KNOWN_DOWN_MAX: Duration = Duration::from_millis(1000);
/// Probes of a source that was down for a while are seconds apart.
const RECOVERY_MAX: Duration = Duration::from_secs(40);

/// A source that has a fault of its own, under a host of its own: what is learned of one says nothing of another.
struct Case {
    what: String,
    host: String,
    old: Image,
    new: Image,
    /// The check of the tag itself fails, so that the source is known to be down after the first.
    is_down: bool,
}

fn faults() -> Vec<Fault> {
    let stages = [Stage::Headers, Stage::FirstByte, Stage::Body { after_bytes: 100 }];
    let hangs = stages.map(Fault::Hang);
    let resets = stages.map(Fault::Reset);
    let statuses = [401, 403, 404, 429, 500, 503].map(Fault::Status);
    let lies = [
        Fault::LieLength { delta: 7 },
        Fault::LieLength { delta: -7 },
        Fault::FlipByte { at: 50 },
        Fault::Truncate { after_bytes: 100 },
    ];
    hangs.into_iter().chain(resets).chain(statuses).chain(lies).collect()
}

/// Statuses that say "not you" or "not this" are answers of a living source.
fn is_down(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Hang(Stage::Headers) | Fault::Reset(Stage::Headers) | Fault::Status(429 | 500 | 503)
    )
}

impl Case {
    fn new(n: u64, what: String, host: &str, is_down: bool) -> Self {
        let version = |seed| make("library/app").random_layer(20_000, seed).build();
        Self {
            what,
            host: host.to_owned(),
            old: version(n * 2),
            new: version(n * 2 + 1),
            is_down,
        }
    }

    fn of_fault(n: usize, fault: &Fault) -> Self {
        let mut case = Self::new(n as u64, format!("{fault:?}"), &fault_host(n), is_down(fault));
        let version = |seed| make(&fault_repository(n)).random_layer(20_000, seed).build();
        (case.old, case.new) = (version(n as u64 * 2), version(n as u64 * 2 + 1));
        case
    }

    fn name(&self) -> String {
        format!("{}/{}:latest", self.host, self.old.repository())
    }

    fn url(&self, base: &str) -> String {
        format!("{base}/v2/{}/{}/manifests/latest", self.host, self.old.repository())
    }

    fn cache(&self, cluster: &Cluster) {
        let pulled = image::digests(cluster.proxy_url(), &self.name()).unwrap();
        assert_eq!(pulled, digests(&self.old));
        cluster.wait_complete(&self.name()).unwrap();
    }

    /// The old image is answered, marked, and soon there.
    fn assert_old(&self, base: &str, limit: Duration) {
        let started = Instant::now();
        let answer = http::get(&self.url(base)).unwrap();
        let took = started.elapsed();
        assert_eq!(answer.status, 200, "{}", self.what);
        let warning = answer.header("warning").unwrap_or_default().to_owned();
        let digest = Digest::sha256(&answer.bytes().unwrap());
        assert_eq!(digest, *self.old.root(), "{}", self.what);
        assert!(warning.starts_with("110 "), "{}: Warning: {warning:?}", self.what);
        assert!(took < limit, "{}: answered after {took:?}", self.what);
    }

    fn check(&self, cluster: &Cluster, node: usize) {
        self.assert_old(cluster.proxy_url(), STALE_MAX);
        self.assert_old(
            cluster.proxy_url(),
            if self.is_down { KNOWN_DOWN_MAX } else { STALE_MAX },
        );
        self.assert_old(&cluster.nodes()[node].url, STALE_MAX);
        let pulled = image::digests(cluster.proxy_url(), &self.name()).unwrap();
        assert_eq!(pulled, digests(&self.old), "{}", self.what);
    }

    /// Once the source is well its new image is seen, unmarked.
    fn check_recovery(&self, cluster: &Cluster) {
        let look = || {
            let answer = http::get(&self.url(cluster.proxy_url()))?;
            let is_marked = answer.header("warning").is_some();
            let is_new = Digest::sha256(&answer.bytes()?) == *self.new.root();
            Ok((is_new && !is_marked).then_some(()))
        };
        wait::until(RECOVERY_MAX, &self.what, look).unwrap();
        let pulled = image::digests(cluster.proxy_url(), &self.name()).unwrap();
        assert_eq!(pulled, digests(&self.new), "{}", self.what);
    }
}

fn fault_host(n: usize) -> String {
    format!("fault-{n}.test")
}

fn fault_repository(n: usize) -> String {
    format!("library/fault-{n}")
}

fn for_all(cases: &[Case], check: impl Fn(usize, &Case) + Sync) {
    thread::scope(|scope| {
        for (n, case) in cases.iter().enumerate() {
            let check = &check;
            scope.spawn(move || check(n, case));
        }
    });
}

#[test]
fn a_cached_tag_is_answered_in_two_seconds_and_marked_whatever_its_source_does() {
    let runtime = Runtime::new().unwrap();
    let (mut hung, mut gone) = runtime.block_on(async { (FakeRegistry::start().await, FakeRegistry::start().await) });
    let faults = faults();
    let world = World::start(|cluster, url| {
        let cluster = cluster
            .upstream("hung.test", &hung.url())
            .upstream("gone.test", &gone.url());
        (0..faults.len()).fold(cluster, |cluster, n| cluster.upstream(&fault_host(n), url))
    });
    let mut cases: Vec<_> = faults
        .iter()
        .enumerate()
        .map(|(n, fault)| Case::of_fault(n, fault))
        .collect();
    cases.push(Case::new(1000, "no connection comes about".into(), "hung.test", true));
    cases.push(Case::new(1001, "connections are refused".into(), "gone.test", true));
    let push = |new: bool| {
        for case in &cases {
            let registry = match case.host.as_str() {
                "hung.test" => &hung,
                "gone.test" => &gone,
                _ => &world.source,
            };
            registry.push(if new { &case.new } else { &case.old });
        }
    };
    push(false);
    for_all(&cases, |_, case| case.cache(&world.cluster));
    push(true);
    thread::sleep(ANSWERS_ARE_OLD);
    for (n, fault) in faults.iter().enumerate() {
        world
            .source
            .fault(On::everything().repository(&fault_repository(n)), fault.clone());
    }
    // What is connected already would go on.
    let hang = runtime.block_on(async {
        hung.restart().await.unwrap();
        hung.hang_connects().await
    });
    for_all(&cases[..faults.len() + 1], |n, case| case.check(&world.cluster, n % 3));
    runtime.block_on(gone.stop());
    cases.last().unwrap().check(&world.cluster, 0);
    world.source.lift_all();
    hang.lift();
    runtime.block_on(gone.restart()).unwrap();
    for_all(&cases, |_, case| case.check_recovery(&world.cluster));
}
