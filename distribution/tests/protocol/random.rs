//! Whatever is asked, the answer is whole, documented and none that the port did not give.

use proptest::prelude::*;

use crate::memory::{NAME, blob_path, nginx};
use crate::wire::Wire;

fn targets() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("manifests".to_owned()),
        Just("blobs".to_owned()),
        Just("uploads".to_owned()),
        Just("tags".to_owned()),
        Just("list".to_owned()),
        Just("referrers".to_owned()),
        Just("latest".to_owned()),
        Just(NAME.to_owned()),
        Just("sha256:".to_owned() + &"0".repeat(64)),
        "[a-zA-Z0-9._%:-]{0,12}",
    ];
    let query = prop_oneof![
        Just(String::new()),
        "\\?(ns|n|last|artifactType)=[a-z0-9.:%\\[\\]&=]{0,16}"
    ];
    prop_oneof![
        3 => (prop::collection::vec(piece, 0..6), query).prop_map(|(pieces, query)| format!("/v2/{}{query}", pieces.join("/"))),
        1 => "/[!-~]{0,40}".prop_map(|target| target.replace(['#', '"', '<', '>', '\\', '^', '`', '{', '|', '}'], "")),
        1 => Just(blob_path()),
        1 => Just(format!("/v2/{NAME}/manifests/latest")),
    ]
}

fn headers() -> impl Strategy<Value = String> {
    let value = "[ -~]{0,24}";
    prop_oneof![
        value.prop_map(|value| format!("range: {value}")),
        value.prop_map(|value| format!("range: bytes={value}")),
        value.prop_map(|value| format!("if-range: {value}")),
        value.prop_map(|value| format!("if-none-match: {value}")),
        value.prop_map(|value| format!("x-kuik-hop: {value}")),
        value.prop_map(|value| format!("x-cache-index: {value}")),
        value.prop_map(|value| format!("accept: {value}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_requests_get_whole_answers(
        requests in prop::collection::vec(
            (prop_oneof!["GET", "HEAD", "PUT", "DELETE", "[A-Z]{3,8}"], targets(), prop::collection::vec(headers(), 0..3)),
            1..4,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let served = nginx().serve().await;
            let mut wire = Wire::connect(served.server.address()).await;
            for (method, target, headers) in &requests {
                let mut headers: Vec<&str> = headers.iter().map(String::as_str).collect();
                headers.push("content-length: 0");
                wire.request(method, target, &headers).await;
                let answer = wire.answer_to(method).await;
                assert!(!answer.cut);
                assert!(answer.status < 500 && answer.status != 429, "{} for {method} {target}", answer.status);
                if answer.status >= 400 && method != "HEAD" {
                    answer.error();
                }
                assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
            }
        });
    }

    #[test]
    fn random_bytes_never_harm_the_server(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let served = nginx().serve().await;
            let mut wire = Wire::connect(served.server.address()).await;
            wire.send(&bytes).await;
            assert_eq!(crate::wire::get(served.server.address(), "/v2/").await.status, 200);
        });
    }
}
