//! What nobody has yet: the answer is the source's own, or a clear end in bounded time; never a wrong whole.

use std::thread;
use std::time::Duration;

use http::Method;
use oci::Digest;
use sandbox::image;
use testkit::{Fault, Image, On, Stage, image as make};
use tokio::time::Instant;

use crate::world::{World, digests};

/// A pull without any progress ends after 30 s; somewhat earlier is a wait cut short, and much later is a hang.
const NO_PROGRESS_MIN: Duration = Duration::from_secs(27);
const NO_PROGRESS_MAX: Duration = Duration::from_secs(40);
/// A client with a next host is sent there after 3 s.
const NEXT_HOST_MAX: Duration = Duration::from_millis(3500);
const LAYER_BYTES: usize = 400_000;

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole(Digest),
    Cut,
    Status(u16),
}

/// What a story expects.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// One of these, and well before anybody would have lost patience.
    Status(&'static [u16]),
    /// An end after the time without progress.
    NoProgress,
    /// The right bytes, or an end that no client takes for success.
    RightOrFailed,
}

struct Case {
    /// Met once, before `fault`.
    first: Option<Fault>,
    fault: Fault,
    expected: Expected,
    image: Image,
    host: String,
}

impl Case {
    fn new(n: usize, fault: Fault, expected: Expected) -> Self {
        Self {
            first: None,
            fault,
            expected,
            image: make(&format!("library/cold-{n}"))
                .random_layer(LAYER_BYTES, n as u64)
                .build(),
            host: format!("cold-{n}.test"),
        }
    }

    fn manifest_path(&self, reference: &str) -> String {
        format!("{}/manifests/{reference}", self.image.repository())
    }

    fn blob_path(&self) -> String {
        format!("{}/blobs/{}", self.image.repository(), self.image.largest_blob().0)
    }

    fn check(&self, base: &str, path: &str, right: &Digest) {
        let started = Instant::now();
        let end = end_of(&format!("{base}/v2/{}/{path}", self.host));
        let took = started.elapsed();
        let told = format!(
            "{:?}, then {:?} of {path} at {base}: {end:?} after {took:?}",
            self.first, self.fault
        );
        if let End::Whole(found) = &end {
            assert_eq!(found, right, "{told}");
        }
        assert!(took < NO_PROGRESS_MAX, "{told}");
        match self.expected {
            Expected::Status(statuses) => {
                let is_expected = statuses.iter().any(|status| end == End::Status(*status));
                assert!(is_expected && took < NO_PROGRESS_MIN, "{told}");
            }
            Expected::NoProgress => {
                assert!(matches!(end, End::Cut | End::Status(500..=599)), "{told}");
                assert!(took > NO_PROGRESS_MIN, "{told}");
            }
            Expected::RightOrFailed => assert!(!matches!(end, End::Status(400..=499)), "{told}"),
        }
    }

    /// The same question of a client that has a next host: it hears soon that this one has nothing.
    fn check_with_next_host(&self, base: &str, path: &str) {
        let started = Instant::now();
        let end = end_of(&format!("{base}/v2/{path}?ns={}", self.host));
        let took = started.elapsed();
        let told = format!("{:?} of {path} with ns: {end:?} after {took:?}", self.fault);
        assert!(matches!(end, End::Status(404 | 500..=599)), "{told}");
        assert!(took < NEXT_HOST_MAX, "{told}");
    }
}

fn end_of(url: &str) -> End {
    // Hanging up without a word is no answer.
    let answer = sandbox::http::get(url).unwrap();
    match (answer.status, answer.bytes()) {
        (200, Ok(bytes)) => End::Whole(Digest::sha256(&bytes)),
        (200, Err(_)) => End::Cut,
        (status, _) => End::Status(status),
    }
}

fn cases() -> (Vec<Case>, Vec<Case>) {
    let never = [Fault::Hang(Stage::Headers), Fault::Hang(Stage::FirstByte)];
    let half = Stage::Body {
        after_bytes: LAYER_BYTES as u64 / 2,
    };
    let lies = [
        Fault::LieLength { delta: 7 },
        Fault::LieLength { delta: -7 },
        Fault::FlipByte { at: 150 },
    ];
    let answers: [(u16, &'static [u16]); 6] = [
        (401, &[401, 403]),
        (403, &[403]),
        (404, &[404]),
        (429, &[503]),
        (500, &[500, 502, 503]),
        (503, &[503]),
    ];
    let answers = answers.map(|(status, expected)| (Fault::Status(status), Expected::Status(expected)));
    let no_progress = never.clone().map(|fault| (fault, Expected::NoProgress));
    let lies = lies.map(|fault| (fault, Expected::RightOrFailed));
    let both = || {
        answers
            .clone()
            .into_iter()
            .chain(no_progress.clone())
            .chain(lies.clone())
    };
    let of_manifests = [(Fault::Reset(Stage::Headers), Expected::Status(&[502, 503]))];
    let of_blobs = [
        (Fault::Hang(half), Expected::RightOrFailed),
        (Fault::Reset(Stage::FirstByte), Expected::RightOrFailed),
        (Fault::Reset(half), Expected::RightOrFailed),
        (Fault::Truncate { after_bytes: 200_000 }, Expected::RightOrFailed),
    ];
    let numbered = |first: usize, faults: Vec<(Fault, Expected)>| {
        let cases = faults.into_iter().zip(first..);
        cases
            .map(|((fault, expected), n)| Case::new(n, fault, expected))
            .collect()
    };
    let manifests = numbered(0, both().chain(of_manifests).collect());
    let mut blobs: Vec<_> = numbered(100, both().chain(of_blobs).collect());
    // Half of it arrives, and from then on nothing.
    for n in 200..205 {
        let never = Case::new(n, Fault::Hang(Stage::FirstByte), Expected::NoProgress);
        blobs.push(Case {
            first: Some(Fault::Hang(half)),
            ..never
        });
    }
    (manifests, blobs)
}

#[test]
fn a_cold_pull_ends_as_a_direct_one_would_and_never_with_a_wrong_whole() {
    let (manifests, blobs) = cases();
    let all = || manifests.iter().chain(&blobs);
    let world = World::start(|cluster, url| all().fold(cluster, |cluster, case| cluster.upstream(&case.host, url)));
    for case in all() {
        world.source.push(&case.image);
    }
    for case in &manifests {
        let on = On::manifests().repository(case.image.repository().as_str());
        world.source.fault(on, case.fault.clone());
    }
    for case in &blobs {
        let on = On::blob(case.image.largest_blob().0);
        world.source.fault(on.clone(), case.fault.clone());
        if let Some(first) = &case.first {
            world.source.fault(on.method(Method::GET).times(1), first.clone());
        }
        let url = format!(
            "{}/v2/{}/{}",
            world.cluster.proxy_url(),
            case.host,
            case.manifest_path("latest")
        );
        sandbox::http::get_bytes(&url).unwrap();
    }
    let listeners = world.listeners();
    thread::scope(|scope| {
        for (n, case) in manifests.iter().enumerate() {
            let base = &listeners[n % listeners.len()];
            scope.spawn(|| case.check(base, &case.manifest_path("latest"), case.image.root()));
            if matches!(case.expected, Expected::NoProgress) {
                listeners.iter().for_each(|base| {
                    scope.spawn(|| case.check_with_next_host(base, &case.manifest_path("latest")));
                    scope
                        .spawn(|| case.check(base, &case.manifest_path(case.image.root().as_str()), case.image.root()));
                });
            }
        }
        for (n, case) in blobs.iter().enumerate() {
            let base = &listeners[n % listeners.len()];
            scope.spawn(|| case.check(base, &case.blob_path(), case.image.largest_blob().0));
            if matches!(case.fault, Fault::Hang(Stage::Headers)) {
                listeners.iter().for_each(|base| {
                    scope.spawn(|| case.check_with_next_host(base, &case.blob_path()));
                });
            }
        }
    });
    world.source.lift_all();
    for case in all() {
        let name = format!("{}/{}:latest", case.host, case.image.repository());
        let pulled = image::digests(world.cluster.proxy_url(), &name).unwrap();
        assert_eq!(pulled, digests(&case.image), "after {:?}", case.fault);
    }
}
