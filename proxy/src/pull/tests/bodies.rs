//! Bodies: whoever dies, lies or stalls, the client gets the right bytes or a visible end.

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::pull::search::AFTER_SILENCE;

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_mid_body_is_not_seen() {
    for how in [Break::Error, Break::End] {
        let (pull, body) = (pull(), content(100));
        let nodes = pull.nodes_for(&body);
        pull.serve(
            nodes[0],
            Script {
                breaks: Some((33, how)),
                ..Script::new(&body, Source::Local)
            },
        );
        pull.serve(nodes[1], Script::new(&body, Source::Local));
        assert_eq!(fetch_whole(&pull, &body).await, (body.clone(), Ok(())), "{how:?}");
        assert_eq!(
            pull.supply.asked(),
            [(nodes[0], Part::WHOLE), (nodes[1], from(33))],
            "{how:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_whose_nodes_all_die_goes_on_upstream_from_the_offset_in_hand() {
    let (pull, body) = (pull(), content(100));
    let nodes = pull.nodes_for(&body);
    for node in &nodes {
        pull.serve(
            *node,
            Script {
                breaks: Some((0, Break::Error)),
                ..Script::new(&body, Source::Upstream)
            },
        );
    }
    pull.serve(
        nodes[0],
        Script {
            breaks: Some((55, Break::Error)),
            ..Script::new(&body, Source::Upstream)
        },
    );
    pull.serve(Supplier::Upstream, Script::new(&body, Source::Upstream));
    assert_eq!(fetch_whole(&pull, &body).await, (body.clone(), Ok(())));
    assert_eq!(pull.supply.asked().last(), Some(&(Supplier::Upstream, from(55))));
}

#[tokio::test(start_paused = true)]
async fn a_cached_body_that_goes_on_upstream_is_proved_from_the_start() {
    let (pull, body) = (pull(), content(100));
    let nodes = pull.nodes_for(&body);
    pull.serve(
        nodes[0],
        Script {
            breaks: Some((55, Break::Error)),
            ..Script::new(&body, Source::Local)
        },
    );
    pull.serve(Supplier::Upstream, Script::new(&body, Source::Upstream));
    assert_eq!(fetch_whole(&pull, &body).await, (body.clone(), Ok(())));
    assert_eq!(pull.supply.asked().last(), Some(&(Supplier::Upstream, Part::WHOLE)));

    let lying = super::pull();
    lying.serve(
        nodes[0],
        Script {
            breaks: Some((55, Break::Error)),
            ..Script::new(&body, Source::Local)
        },
    );
    lying.serve(
        Supplier::Upstream,
        Script {
            flips: Some(90),
            ..Script::new(&body, Source::Upstream)
        },
    );
    let (got, end) = fetch_whole(&lying, &body).await;
    assert!(end.is_err() && got.len() < body.len(), "{} bytes, {end:?}", got.len());
}

#[tokio::test(start_paused = true)]
async fn bytes_of_a_fill_that_failed_are_not_trusted_by_the_next() {
    for source in [Source::Peer, Source::Upstream] {
        let (pull, body) = (pull(), content(100));
        let nodes = pull.nodes_for(&body);
        let flawed = Script {
            flips: Some(5),
            checks: true,
            ..Script::new(&body, source)
        };
        pull.serve(nodes[0], flawed);
        pull.serve(nodes[1], Script::new(&body, Source::Local));
        let (got, end) = fetch_whole(&pull, &body).await;
        assert!(
            end.is_err() && got.len() < body.len(),
            "{source:?}: {} bytes",
            got.len()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_copy_that_goes_on_as_a_fill_is_proved_from_the_start() {
    let (pull, body) = (pull(), content(100));
    let nodes = pull.nodes_for(&body);
    let dying = Script {
        breaks: Some((55, Break::Error)),
        ..Script::new(&body, Source::Local)
    };
    pull.serve(nodes[0], dying);
    pull.serve(nodes[1], Script::new(&body, Source::Upstream));
    assert_eq!(fetch_whole(&pull, &body).await, (body, Ok(())));
    let asked = pull.supply.asked();
    assert_eq!(asked[1..], [(nodes[1], from(55)), (nodes[1], Part::WHOLE)]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ignores_ranges_is_read_past_what_the_client_has() {
    for tells_size in [true, false] {
        let (pull, body) = (pull(), content(100));
        let script = Script {
            tells_size,
            ..Script::new(&body, Source::Upstream)
        };
        pull.serve(
            pull.nodes_for(&body)[0],
            Script {
                breaks: Some((47, Break::Error)),
                ..script.clone()
            },
        );
        pull.serve(
            Supplier::Upstream,
            Script {
                ignores_ranges: true,
                ..script
            },
        );
        assert_eq!(fetch_whole(&pull, &body).await, (body, Ok(())), "{tells_size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flipped_byte_from_upstream_never_makes_a_whole_body() {
    for tells_size in [true, false] {
        for flips in [0, 50, 99] {
            let (pull, body) = (pull(), content(100));
            let script = Script {
                flips: Some(flips),
                tells_size,
                ..Script::new(&body, Source::Upstream)
            };
            pull.serve(Supplier::Upstream, script);
            let (got, end) = fetch_whole(&pull, &body).await;
            assert!(
                end.is_err() && got.len() < body.len(),
                "flip at {flips}: {} bytes, {end:?}",
                got.len()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flipped_byte_over_a_plain_link_never_makes_a_whole_body() {
    let pull = pull_over(ScriptedSupply {
        plain: true,
        ..ScriptedSupply::default()
    });
    let body = content(100);
    let nodes = pull.nodes_for(&body);
    pull.serve(
        nodes[0],
        Script {
            flips: Some(5),
            ..Script::new(&body, Source::Local)
        },
    );
    pull.serve(nodes[1], Script::new(&body, Source::Local));
    let (got, end) = fetch_whole(&pull, &body).await;
    assert!(end.is_err() && got.len() < body.len());
}

#[tokio::test(start_paused = true)]
async fn a_small_body_that_is_wrong_is_replaced_before_the_client_sees_it() {
    let (pull, body) = (pull(), content(8));
    let nodes = pull.nodes_for(&body);
    pull.serve(
        Supplier::Upstream,
        Script {
            flips: Some(3),
            ..Script::new(&body, Source::Upstream)
        },
    );
    let (got, end) = fetch_whole(&pull, &body).await;
    assert!(got.is_empty() && end.is_err(), "nobody has it right");
    pull.serve(nodes[2], Script::new(&body, Source::Local));
    assert_eq!(fetch_whole(&pull, &body).await, (body, Ok(())), "the last resort has");
}

#[tokio::test(start_paused = true)]
async fn empty_blobs_and_unknown_lengths_are_served() {
    for (length, tells_size) in [(0, true), (0, false), (1, false), (95, false)] {
        let (pull, body) = (pull(), content(length));
        pull.serve(
            Supplier::Upstream,
            Script {
                tells_size,
                ..Script::new(&body, Source::Upstream)
            },
        );
        assert_eq!(fetch_whole(&pull, &body).await, (body, Ok(())), "{length} {tells_size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_supplier_of_another_length_is_not_joined() {
    let (pull, body) = (pull(), content(100));
    let nodes = pull.nodes_for(&body);
    pull.serve(
        nodes[0],
        Script {
            breaks: Some((20, Break::Error)),
            ..Script::new(&body, Source::Local)
        },
    );
    pull.serve(nodes[1], Script::new(&content(90), Source::Local));
    pull.serve(nodes[2], Script::new(&body, Source::Local));
    assert_eq!(fetch_whole(&pull, &body).await, (body, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_range_is_asked_for_and_resumed_as_a_range() {
    let (pull, body) = (pull(), content(100));
    let nodes = pull.nodes_for(&body);
    pull.serve(
        nodes[0],
        Script {
            breaks: Some((15, Break::Error)),
            ..Script::new(&body, Source::Local)
        },
    );
    pull.serve(nodes[1], Script::new(&body, Source::Local));
    let got = fetch(&pull, &body, Some("bytes=40-79"), Patience::AsLongAsItTakes).await;
    assert_eq!(got, Ok((body.slice(40..80), Ok(()))));
    let part = |start| Part { start, end: Some(80) };
    assert_eq!(pull.supply.asked(), [(nodes[0], part(40)), (nodes[1], part(55))]);
}

#[tokio::test(start_paused = true)]
async fn ranges_mean_the_same_whoever_answers_them() {
    for ignores_ranges in [true, false] {
        for (range, expected) in [
            ("bytes=90-", 90..100),
            ("bytes=-7", 93..100),
            ("bytes=0-", 0..100),
            ("bytes=5-5", 5..6),
        ] {
            let (pull, body) = (pull(), content(100));
            pull.serve(
                Supplier::Upstream,
                Script {
                    ignores_ranges,
                    ..Script::new(&body, Source::Upstream)
                },
            );
            let got = fetch(&pull, &body, Some(range), Patience::AsLongAsItTakes).await;
            assert_eq!(got, Ok((body.slice(expected), Ok(()))), "{range} {ignores_ranges}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_with_a_next_host_is_sent_there_after_its_limit() {
    let (pull, body) = (pull(), content(100));
    let nodes = pull.nodes_for(&body);
    for node in &nodes {
        pull.supply.set(*node, Behaviour::Hangs);
    }
    let started = Instant::now();
    assert_eq!(
        fetch(&pull, &body, None, Patience::NextHost).await,
        Err(Refusal::TimedOut)
    );
    assert_eq!(started.elapsed(), Duration::from_secs(3));

    let silent = Script {
        breaks: Some((0, Break::Hang)),
        ..Script::new(&body, Source::Upstream)
    };
    pull.serve(nodes[0], silent);
    let started = Instant::now();
    let got = fetch(&pull, &body, None, Patience::NextHost).await;
    assert_eq!(
        got,
        Ok((Bytes::new(), Err(Refusal::TimedOut))),
        "headers are not yet an answer"
    );
    assert_eq!(started.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_silent_to_a_node_is_not_waited_for_as_long_again() {
    let (pull, body) = (pull(), content(100));
    let nodes = pull.nodes_for(&body);
    pull.supply.set(nodes[0], Behaviour::Fails(Failure::SourceSilent));
    let headers_only = Script {
        breaks: Some((0, Break::Hang)),
        ..Script::new(&body, Source::Upstream)
    };
    pull.serve(Supplier::Upstream, headers_only);
    let started = Instant::now();
    assert_eq!(fetch_whole(&pull, &body).await, (Bytes::new(), Err(Refusal::TimedOut)));
    assert_eq!(started.elapsed(), AFTER_SILENCE);
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_costs_its_deadline_once() {
    let (pull, body) = (pull(), content(100));
    let nodes = pull.nodes_for(&body);
    pull.serve(nodes[1], Script::new(&body, Source::Local));
    for _ in 0..3 {
        assert_eq!(fetch_whole(&pull, &body).await, (body.clone(), Ok(())));
    }
    let asked_dead = pull
        .supply
        .asked()
        .iter()
        .filter(|(supplier, _)| *supplier == nodes[0])
        .count();
    assert_eq!(asked_dead, 1);
}

#[tokio::test(start_paused = true)]
async fn suppliers_that_break_without_end_do_not_keep_a_body_alive() {
    let (pull, body) = (pull(), content(10_000));
    for node in pull.nodes_for(&body) {
        pull.serve(
            node,
            Script {
                breaks: Some((10, Break::Error)),
                ..Script::new(&body, Source::Local)
            },
        );
    }
    let (got, end) = fetch_whole(&pull, &body).await;
    assert_eq!(end, Err(Refusal::Unavailable));
    assert!(
        body.starts_with(&got) && pull.supply.asked().len() < 100,
        "asked {}",
        pull.supply.asked().len()
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_came_back_is_used_again_by_the_same_body() {
    let (pull, body) = (pull(), content(100));
    let nodes = pull.nodes_for(&body);
    for node in &nodes {
        pull.serve(
            *node,
            Script {
                breaks: Some((40, Break::Error)),
                ..Script::new(&body, Source::Local)
            },
        );
    }
    assert_eq!(fetch_whole(&pull, &body).await, (body, Ok(())));
    assert_eq!(pull.supply.asked().len(), 3);
}

fn break_strategy() -> impl Strategy<Value = Option<(usize, Break)>> {
    prop::option::of((0usize..120, prop::sample::select(vec![Break::Error, Break::End])))
}

fn script_strategy() -> impl Strategy<Value = (bool, bool, usize, Option<(usize, Break)>, Source)> {
    let source = prop::sample::select(vec![Source::Local, Source::Peer, Source::Upstream]);
    (any::<bool>(), any::<bool>(), 1usize..40, break_strategy(), source)
}

proptest! {
    #[test]
    fn no_body_ends_cleanly_unless_it_is_whole_and_right(
        length in 0usize..120,
        plain: bool,
        scripts in prop::collection::vec(prop::option::of(script_strategy()), 4),
        flips in prop::collection::vec(prop::option::of(0usize..120), 4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let pull = pull_over(ScriptedSupply { plain, ..ScriptedSupply::default() });
            let body = content(length);
            let suppliers: Vec<_> = pull.nodes_for(&body).into_iter().chain([Supplier::Upstream]).collect();
            for ((supplier, script), flip) in suppliers.iter().zip(&scripts).zip(&flips) {
                let Some((tells_size, ignores_ranges, frame_bytes, breaks, source)) = *script else { continue };
                let body = body.clone();
                let source = if *supplier == Supplier::Upstream { Source::Upstream } else { source };
                // A cache node behind an authenticated link checks stored chunks before they leave, and a fill as a
                // whole before its last bytes do.
                let checks = pull.supply.trusts(*supplier);
                let flips = flip.filter(|at| *at < length && !(checks && source == Source::Local));
                // A trusted node frames its answers, so a clean end is never an early one.
                let tells_size = tells_size || breaks.is_some_and(|(_, how)| how == Break::End);
                pull.serve(*supplier, Script { body, source, tells_size, ignores_ranges, frame_bytes, breaks, flips, checks });
            }
            match fetch(&pull, &body, None, Patience::AsLongAsItTakes).await {
                Ok((got, Ok(()))) => prop_assert_eq!(got, body),
                Ok((got, Err(_))) => prop_assert!(got.len() < length.max(1)),
                Err(_) => {}
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_part_ends_cleanly_unless_it_is_the_part(
        (length, start, last) in (1usize..120).prop_flat_map(|n| (Just(n), 0..n, 0usize..120)),
        scripts in prop::collection::vec(prop::option::of(script_strategy()), 4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (pull, body) = (pull(), content(length));
            let suppliers: Vec<_> = pull.nodes_for(&body).into_iter().chain([Supplier::Upstream]).collect();
            for (supplier, script) in suppliers.iter().zip(&scripts) {
                let Some((_, ignores_ranges, frame_bytes, breaks, source)) = *script else { continue };
                let script = Script { ignores_ranges, frame_bytes, breaks, ..Script::new(&body, source) };
                pull.serve(*supplier, script);
            }
            let last = last.max(start);
            let range = format!("bytes={start}-{last}");
            let expected = body.slice(start..(last + 1).min(length));
            match fetch(&pull, &body, Some(&range), Patience::AsLongAsItTakes).await {
                Ok((got, Ok(()))) => prop_assert_eq!(got, expected),
                Ok((got, Err(_))) => prop_assert!(expected.starts_with(&got) && got.len() < expected.len()),
                Err(_) => {}
            }
            Ok(())
        })?;
    }
}
