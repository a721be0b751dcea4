//! Pulls and pods that keep coming while something changes, and what became of them.
//!
//! On every node all of an image is fetched each second, as a runtime does it; that rate is checked. A pod that must pull
//! starts there each second as well, unless the node has not ended its last ones: a small machine cannot start so many.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use cluster::pods::name_of;
use cluster::{Cluster, Pod, Recording, Source, Stage, wait};
use serde_json::Value;

use crate::{CACHED, RUNNING};

/// A pull and a pod on every node.
const INTERVAL: Duration = Duration::from_secs(1);

/// Pods of a node that have not ended; beyond them the machine would only wait for itself.
const N_UNFINISHED_MAX: usize = 2;

/// Pulls that must have been there, in hundredths of the seconds that passed on all nodes.
const PULLS_PERCENT_MIN: usize = 70;

/// The same for pods: a machine with two cores that others use too starts one in some seconds.
const PODS_PERCENT_MIN: usize = 3;

/// For the last pods to end: a kubelet that cannot keep up is late, which is not a failed pull.
const LATE: Duration = Duration::from_secs(120);

/// What the watch writes of each state of a pod.
const STATE: &str =
    r#"jsonpath={.metadata.name}{" "}{.status.phase}{" "}{.status.containerStatuses[*].state.waiting.reason}{"\n"}"#;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Seconds times nodes.
    n_wanted: usize,
    n_pulls: usize,
    slowest: Duration,
    n_pods: usize,
    n_rewritten: usize,
    failures: Vec<String>,
}

impl Tally {
    /// Fails on the first pull that failed, and if there were too few to show it.
    pub(crate) fn check(&self) -> Result<()> {
        println!("{self}");
        ensure!(self.failures.is_empty(), "pulls failed: {:#?}", self.failures);
        for (what, n, percent) in [
            ("pulls", self.n_pulls, PULLS_PERCENT_MIN),
            ("pods", self.n_pods, PODS_PERCENT_MIN),
        ] {
            ensure!(
                n * 100 >= self.n_wanted * percent,
                "only {n} {what} in {} seconds of nodes",
                self.n_wanted
            );
        }
        Ok(())
    }

    /// Fails if a pod was created without being rewritten.
    pub(crate) fn check_all_rewritten(&self) -> Result<()> {
        ensure!(
            self.n_rewritten == self.n_pods,
            "{} of {} rewritten",
            self.n_rewritten,
            self.n_pods
        );
        Ok(())
    }

    fn add_pulls(&mut self, lines: &str) -> Result<()> {
        for line in lines.lines() {
            let (took, said) = line.split_once('\t').with_context(|| format!("a pull: {line}"))?;
            self.n_pulls += 1;
            self.slowest = self.slowest.max(Duration::from_millis(took.parse()?));
            if said != "ok" {
                self.failures.push(said.to_owned());
            }
        }
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} seconds of nodes: {} pulls, the slowest of {} ms; {} pods, {} of them rewritten; {} failed",
            self.n_wanted,
            self.n_pulls,
            self.slowest.as_millis(),
            self.n_pods,
            self.n_rewritten,
            self.failures.len()
        )
    }
}

/// Makes a change under pulls and pods.
pub(crate) fn during(stage: &Stage, name: &str, change: impl FnOnce() -> Result<()>) -> Result<Tally> {
    let (cluster, nodes) = (stage.cluster(), stage.cluster().nodes()?);
    let image = stage.machine().publish(Source::Public, &format!("{name}:1"))?;
    let first = Pod::new(name, &image);
    cluster.start(&first, RUNNING)?;
    cluster.wait_cached(&image, CACHED)?;
    cluster.delete(&first)?;
    let pulls = nodes.iter().map(|node| stage.machine().keep_pulling(node, &image));
    let pulls = pulls.collect::<Result<Vec<_>>>()?;
    let mut tally = Tally::default();
    let (n_ticks, states) = under_pods(cluster, &nodes, name, &image, change)?;
    for pull in pulls {
        tally.add_pulls(&pull.finish()?)?;
    }
    let pods = all_ended(cluster, name)?;
    tally.n_wanted = n_ticks * nodes.len();
    tally.n_pods = pods.len();
    tally.n_rewritten = pods.iter().filter(|pod| is_rewritten(pod)).count();
    tally.failures.extend(failed_states(&states.stop()?, name));
    tally.failures.extend(failed_events(cluster, name)?);
    cluster.kubectl(&["delete", "pods", "--all", "--wait=false"])?;
    Ok(tally)
}

/// Makes the change while pods start; says how many ticks of the clock it took, and what states pods go through.
fn under_pods(
    cluster: &Cluster,
    nodes: &[String],
    name: &str,
    image: &str,
    change: impl FnOnce() -> Result<()>,
) -> Result<(usize, Recording)> {
    let states = cluster.watch(&["pods", "--output", STATE])?;
    let over = AtomicBool::new(false);
    let pod = |tick: usize, node: &str| Pod::new(&pod_name(name, tick, node), image).on(node).always().ending();
    let (changed, n_ticks) = thread::scope(|scope| {
        let ticks = scope.spawn(|| start_pods(cluster, nodes, &states, &over, &pod));
        let changed = change();
        over.store(true, Ordering::Relaxed);
        (changed, ticks.join())
    });
    changed?;
    let n_ticks = n_ticks.map_err(|_panic| anyhow!("the thread that starts pods panicked"))??;
    Ok((n_ticks, states))
}

/// Starts a pod on every node that is not busy at each tick of the clock; one request for all of them, which the next
/// tick does not wait for.
fn start_pods(
    cluster: &Cluster,
    nodes: &[String],
    states: &Recording,
    over: &AtomicBool,
    pod: &dyn Fn(usize, &str) -> Pod,
) -> Result<usize> {
    #[expect(clippy::disallowed_methods, reason = "the pods come at a rate of the real clock")]
    let began = Instant::now();
    let mut started = vec![0; nodes.len()];
    let mut n_ticks = 0;
    thread::scope(|scope| {
        let mut requests = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let ended = states.so_far()?;
            let mut batch = Vec::new();
            for (node, n_started) in nodes.iter().zip(&mut started) {
                if *n_started < n_ended(&ended, node) + N_UNFINISHED_MAX {
                    batch.push(pod(n_ticks, node).manifest());
                    *n_started += 1;
                }
            }
            if !batch.is_empty() {
                requests.push(scope.spawn(move || cluster.create(&batch)));
            }
            n_ticks += 1;
            let next = INTERVAL * u32::try_from(n_ticks)?;
            thread::sleep(next.saturating_sub(began.elapsed()));
        }
        for request in requests {
            request.join().map_err(|_panic| anyhow!("a request panicked"))??;
        }
        Ok(n_ticks)
    })
}

fn pod_name(name: &str, tick: usize, node: &str) -> String {
    format!("{name}-{tick}-{node}")
}

/// How many pods of a node have ended well, by what the watch wrote.
fn n_ended(states: &str, node: &str) -> usize {
    let ended = states.lines().filter_map(|line| line.split_once(" Succeeded"));
    let mut names: Vec<&str> = ended
        .map(|(name, _)| name)
        .filter(|name| name.ends_with(&format!("-{node}")))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.len()
}

/// Waits until every pod has ended well, and returns them.
fn all_ended(cluster: &Cluster, name: &str) -> Result<Vec<Value>> {
    let (pods, _) = wait::until(LATE, "the pods to end", || {
        let mut pods = cluster.list(&["pods"])?;
        pods.retain(|pod| is_of(&pod["metadata"]["name"], name));
        let late: Vec<&Value> = pods
            .iter()
            .filter(|pod| pod["status"]["phase"] != "Succeeded")
            .collect();
        match late.first() {
            None => Ok(Some(pods)),
            Some(pod) => bail!(
                "{} have not, one of them {}: {}",
                late.len(),
                name_of(pod)?,
                pod["status"]
            ),
        }
    })?;
    Ok(pods)
}

/// The pods whose container ever waited for an image in vain.
fn failed_states(states: &str, name: &str) -> Vec<String> {
    let ours = states.lines().filter(|line| line.starts_with(&format!("{name}-")));
    let failed = ours.filter(|line| line.contains("Image"));
    failed.map(str::to_owned).collect()
}

/// What the kubelets say of pulls that failed, and the controllers of images they gave back.
pub(crate) fn failed_events(cluster: &Cluster, name: &str) -> Result<Vec<String>> {
    let events = cluster.list(&["events"])?;
    let ours = events
        .iter()
        .filter(|event| is_of(&event["involvedObject"]["name"], name));
    let failed = ours.filter(|event| match event["reason"].as_str() {
        Some("Failed") => {
            let message = event["message"].as_str().unwrap_or_default();
            message.contains("pull") || message.contains("Image")
        }
        Some("ErrImagePull" | "ImagePullBackOff" | "OriginalImageRestored") => true,
        _ => false,
    });
    Ok(failed.map(|event| event["message"].to_string()).collect())
}

/// Whether an object's name says that it is of these pods.
fn is_of(found: &Value, name: &str) -> bool {
    found
        .as_str()
        .is_some_and(|found| found.starts_with(&format!("{name}-")))
}

fn is_rewritten(pod: &Value) -> bool {
    let image = pod["spec"]["containers"][0]["image"].as_str();
    image.is_some_and(|image| image.starts_with("localhost:7439/"))
}

#[test]
fn a_tally_fails_on_a_failed_pull_and_on_too_few() {
    let good = |n_pulls| Tally {
        n_wanted: 10,
        n_pulls,
        n_pods: 5,
        n_rewritten: 5,
        ..Tally::default()
    };
    assert!(good(7).check().is_ok());
    assert!(good(6).check().is_err());
    let mut failed = good(7);
    failed.add_pulls("12\tok\n30\tfailed: refused\n").unwrap();
    assert_eq!((failed.n_pulls, failed.slowest), (9, Duration::from_millis(30)));
    assert!(failed.check().unwrap_err().to_string().contains("failed: refused"));
}

#[test]
fn states_tell_pods_that_ended_and_pods_that_could_not_pull() {
    let states = "a-0-n1 Pending ContainerCreating\na-0-n1 Succeeded \na-0-n1 Succeeded \na-1-n1 Succeeded \n\
                  a-0-n2 Pending ErrImagePull\nb-0-n2 Pending ErrImagePull\n";
    assert_eq!((n_ended(states, "n1"), n_ended(states, "n2")), (2, 0));
    assert_eq!(failed_states(states, "a"), ["a-0-n2 Pending ErrImagePull"]);
}
