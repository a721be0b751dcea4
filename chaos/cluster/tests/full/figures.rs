//! Figures of an install, printed: times of starts, and memory. Only what no machine is too slow for is asserted.

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster::pods::image_of;
use cluster::{Pod, Source, Stage};

use crate::{CACHED, RUNNING};

/// Of the image whose pods are started.
const MEGABYTES: u32 = 30;

/// Of the link to the source registries.
const MEGABITS: u32 = 50;

/// Pods of each kind, one after the other.
const N_RUNS: usize = 5;

/// As the kernel knows them.
const PROGRAMS: [&str; 4] = ["kuik-cache-node", "kuik-proxy", "kuik-webhook", "kuik-controller"];

#[test]
#[ignore = "long: make e2e"]
fn figures_of_an_install_and_of_pod_starts() {
    let Some(mut stage) = Stage::enter_own_with(&[]) else {
        return;
    };
    let first = stage.must(first_pod(&stage));
    let ready = stage.kuik().ready_after;
    println!(
        "ready {:.1} s after helm install, the first pod {:.1} s later",
        ready.as_secs_f64(),
        first.as_secs_f64()
    );
    stage.must(stage.machine().limit_sources(Some(MEGABITS)));
    let (warm, direct) = stage.must(starts(&stage));
    stage.must(stage.machine().limit_sources(None));
    println!("pod starts on a warm cache: {}", seconds(&warm));
    println!(
        "pod starts with a direct pull of {MEGABYTES} MB at {MEGABITS} Mb/s: {}",
        seconds(&direct)
    );
    stage.must(print_memory(&stage));
    assert!(
        median(&warm) < median(&direct),
        "the cache is no slower than its source"
    );
    stage.remove_kuik();
}

fn first_pod(stage: &Stage) -> Result<Duration> {
    let image = stage.machine().publish(Source::Public, "first:1")?;
    let pod = Pod::new("first", &image);
    let took = stage.cluster().start(&pod, RUNNING)?;
    stage.cluster().delete(&pod)?;
    Ok(took)
}

/// Starts pods of one image on one node, which never has it, in turns through the cache and past it.
fn starts(stage: &Stage) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (cluster, machine) = (stage.cluster(), stage.machine());
    let image = machine.publish_sized(Source::Public, "figures:1", MEGABYTES)?;
    let nodes = cluster.nodes()?;
    let filling = Pod::new("filling", &image).on(&nodes[1]);
    cluster.start(&filling, RUNNING)?;
    cluster.wait_cached(&image, CACHED)?;
    let (mut warm, mut direct) = (Vec::new(), Vec::new());
    for run in 0..N_RUNS {
        let pod = Pod::new(&format!("warm-{run}"), &image).on(&nodes[0]);
        warm.push(start_without_image(
            stage,
            &pod,
            &nodes[0],
            &image,
            &format!("localhost:7439/{image}"),
        )?);
        let pod = Pod::new(&format!("direct-{run}"), &image).on(&nodes[0]).direct();
        direct.push(start_without_image(stage, &pod, &nodes[0], &image, &image)?);
    }
    cluster.delete(&filling)?;
    Ok((warm, direct))
}

fn start_without_image(stage: &Stage, pod: &Pod, node: &str, image: &str, pulled: &str) -> Result<Duration> {
    let (cluster, machine) = (stage.cluster(), stage.machine());
    machine.remove_image(node, image)?;
    ensure!(
        !machine.images(node)?.iter().any(|name| name.ends_with(image)),
        "{node} has {image} already"
    );
    let took = cluster.start(pod, RUNNING)?;
    let found = cluster.pod(pod)?;
    ensure!(image_of(&found)? == pulled, "it pulled {}", image_of(&found)?);
    cluster.delete(pod)?;
    Ok(took)
}

/// The memory of each of kuik's processes: all that is resident, and the part of it that is not a file's.
fn print_memory(stage: &Stage) -> Result<()> {
    const SCRIPT: &str = r#"for pid in $(pgrep --full "^/usr/bin/$1( |$)"); do
        awk '/^VmRSS|^RssAnon/ { printf "%s %.1f MiB  ", $1, $2 / 1024 }' "/proc/$pid/status"; echo; done"#;
    for node in stage.cluster().nodes()? {
        for program in PROGRAMS {
            let text = stage.machine().exec(&node, &["sh", "-c", SCRIPT, "sh", program])?;
            text.lines().for_each(|line| println!("{node} {program}: {line}"));
        }
    }
    Ok(())
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn seconds(times: &[Duration]) -> String {
    let all: Vec<String> = times.iter().map(|time| format!("{:.1}", time.as_secs_f64())).collect();
    format!("median {:.1} s of {}", median(times).as_secs_f64(), all.join(" "))
}
