//! Ranges as resuming and chunked clients use them.

use bytes::Bytes;
use oci::{Digest, ErrorCode};
use proptest::prelude::*;

use crate::memory::{MemoryRegistry, Step, blob_bytes, blob_path, nginx, script_path};
use crate::wire::{Answer, ask};

async fn range(range: &str) -> Answer {
    let served = nginx().serve().await;
    ask(
        served.server.address(),
        "GET",
        &blob_path(),
        &[&format!("range: {range}")],
    )
    .await
}

// G-24, G-25
#[tokio::test]
async fn one_range_is_answered_with_that_part() {
    for (asked, start, end) in [
        ("bytes=1000-", 1000, 2999),
        ("bytes=0-", 0, 2999),
        ("bytes=0-0", 0, 0),
        ("bytes=2999-2999", 2999, 2999),
        ("bytes=10-99999", 10, 2999),
        ("bytes=-5", 2995, 2999),
        ("bytes=-99999", 0, 2999),
    ] {
        let answer = range(asked).await;
        assert_eq!((answer.status, answer.cut), (206, false), "{asked}");
        assert_eq!(
            answer.header("content-range"),
            Some(format!("bytes {start}-{end}/3000").as_str())
        );
        assert_eq!(
            answer.header("content-length"),
            Some((end - start + 1).to_string().as_str())
        );
        assert_eq!(answer.body, blob_bytes()[start..=end]);
    }
}

// G-26
#[tokio::test]
async fn several_ranges_are_answered_with_everything() {
    let answer = range("bytes=0-9,100-109").await;
    assert_eq!((answer.status, answer.header("content-range")), (200, None));
    assert_eq!(answer.body, blob_bytes());
}

// G-27
#[tokio::test]
async fn a_range_that_cannot_be_served_is_416_with_the_length() {
    for asked in [
        "bytes=3000-",
        "bytes=3000-4000",
        "bytes=500-0",
        "bytes=-0",
        "bytes=x-y",
        "bytes=",
    ] {
        let answer = range(asked).await;
        assert_eq!(
            (answer.status, answer.error()),
            (416, ErrorCode::RangeInvalid),
            "{asked}"
        );
        assert_eq!(answer.header("content-range"), Some("bytes */3000"));
    }
}

// G-27
#[tokio::test]
async fn no_range_of_an_empty_blob_can_be_served() {
    let served = MemoryRegistry::default().blob("").serve().await;
    let answer = ask(served.server.address(), "GET", &script_path(b""), &["range: bytes=0-"]).await;
    assert_eq!(
        (answer.status, answer.header("content-range")),
        (416, Some("bytes */0"))
    );
}

#[tokio::test]
async fn a_range_of_another_unit_is_ignored() {
    assert_eq!(range("items=0-5").await.status, 200);
}

#[tokio::test]
async fn a_range_of_an_unknown_length_is_answered_with_everything() {
    let steps = vec![Step::Bytes(Bytes::from_static(b"abcd"))];
    let served = MemoryRegistry::default().script(b"x", None, steps).serve().await;
    let answer = ask(served.server.address(), "GET", &script_path(b"x"), &["range: bytes=2-"]).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"abcd"[..]));
}

#[tokio::test]
async fn head_ignores_ranges() {
    let served = nginx().serve().await;
    let answer = ask(served.server.address(), "HEAD", &blob_path(), &["range: bytes=5-9"]).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("3000")));
}

#[tokio::test]
async fn if_range_decides_whether_the_range_counts() {
    let served = nginx().serve().await;
    let same = format!("if-range: \"{}\"", Digest::sha256(&blob_bytes()));
    let answer = ask(
        served.server.address(),
        "GET",
        &blob_path(),
        &["range: bytes=5-9", &same],
    )
    .await;
    assert_eq!(answer.status, 206);
    let answer = ask(
        served.server.address(),
        "GET",
        &blob_path(),
        &["range: bytes=5-9", "if-range: \"x\""],
    )
    .await;
    assert_eq!((answer.status, answer.body.len()), (200, 3000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_part_is_always_those_bytes_of_the_whole(start in 0..4000_u64, length in 0..4000_u64, open: bool) {
        let end = if open { String::new() } else { (start + length).to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(range(&format!("bytes={start}-{end}")));
        if start >= 3000 {
            prop_assert_eq!(answer.status, 416);
        } else {
            let last = if open { 2999 } else { (start + length).min(2999) };
            prop_assert_eq!(answer.status, 206);
            prop_assert_eq!(&answer.body[..], &blob_bytes()[start as usize..=last as usize]);
        }
    }
}
