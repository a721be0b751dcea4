//! The one cluster of a test program, with kuik installed, handed to one test at a time.
//!
//! The first test that wants it starts it. A test leaves it as it found it; after one that failed, the next gets a new
//! one. It ends with the test program, however that ends.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use crate::access::{Access, KUBECONFIG_VARIABLE};
use crate::cluster::Cluster;
use crate::installer::Installer;
use crate::kuik::{Kuik, forget_volumes};
use crate::machine::{Machine, Source};
use crate::report;

/// Three nodes, the second with Debian's containerd 1.6 and the others with the newest.
const OWN_CLUSTER: [&str; 4] = ["--nodes", "3", "--containerd", "mixed"];

/// Names the image that pods run on a cluster of others.
const APP_IMAGE_VARIABLE: &str = "KUIK_E2E_APP_IMAGE";

/// The one they run if none is named.
const PUBLIC_IMAGE: &str = "registry.k8s.io/pause:3.10";

static STAGE: Mutex<Option<Ready>> = Mutex::new(None);

/// What is there for the tests, and whether one of them left it in an unknown state.
#[derive(Debug)]
struct Ready {
    cluster: Cluster,
    image: String,
    kuik: Option<Kuik>,
}

/// The stage while one test has it.
#[derive(Debug)]
pub struct Stage {
    ready: MutexGuard<'static, Option<Ready>>,
}

impl Stage {
    /// A cluster with kuik installed; nothing, said loudly, where there can be none.
    ///
    /// # Panics
    /// If the cluster or kuik does not start, with the reason.
    pub fn enter() -> Option<Self> {
        Self::bare()?.with_kuik()
    }

    fn with_kuik(mut self) -> Option<Self> {
        if self.ready().kuik.is_none() {
            let ready = self.ready();
            let installed = Kuik::install(&ready.cluster, &ready.image, &[]);
            self.ready_mut().kuik = Some(self.must(installed));
        }
        Some(self)
    }

    /// As [`Stage::enter`], only on a cluster whose machines can be broken.
    ///
    /// # Panics
    /// As [`Stage::enter`].
    pub fn enter_own() -> Option<Self> {
        Self::bare_own()?.with_kuik()
    }

    /// As [`Stage::enter_own`], with kuik installed anew with these values.
    ///
    /// # Panics
    /// As [`Stage::enter`].
    pub fn enter_own_with(values: &[&str]) -> Option<Self> {
        let mut stage = Self::bare_own()?;
        stage.remove_kuik();
        let installed = Kuik::install(stage.cluster(), stage.image(), values);
        stage.ready_mut().kuik = Some(stage.must(installed));
        Some(stage)
    }

    /// As [`Stage::bare`], only on a cluster whose machines can be broken.
    ///
    /// # Panics
    /// As [`Stage::bare`].
    pub fn bare_own() -> Option<Self> {
        if std::env::var_os(KUBECONFIG_VARIABLE).is_some() {
            skip("breaks nodes or registries, which the cluster of KUIK_E2E_KUBECONFIG does not offer");
            return None;
        }
        Self::bare()
    }

    /// Uninstalls kuik, if it is there, and removes its volumes.
    ///
    /// # Panics
    /// If something of it does not go.
    pub fn remove_kuik(&mut self) {
        self.forget_kuik();
        self.must(Installer::Helm3.uninstall(self.cluster(), self.image(), &[]));
        self.must(forget_volumes(self.cluster()));
    }

    /// A cluster, with kuik or without.
    ///
    /// # Panics
    /// If the cluster does not start, with the reason.
    pub fn bare() -> Option<Self> {
        if let Some(reason) = why_impossible() {
            skip(reason);
            return None;
        }
        let mut ready = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
        if STAGE.is_poisoned() {
            STAGE.clear_poison();
            *ready = None;
        }
        if ready.is_none() {
            *ready = Some(start().unwrap_or_else(|error| panic!("no cluster to test on: {error:#}")));
        }
        Some(Self { ready })
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.ready().cluster
    }

    /// Its machines.
    ///
    /// # Panics
    /// If the cluster is not of our own making: use [`Stage::enter_own`].
    pub fn machine(&self) -> &Machine {
        self.cluster()
            .machine()
            .expect("a test that breaks machines enters a cluster of our own")
    }

    /// The installation.
    ///
    /// # Panics
    /// If kuik is not installed.
    pub fn kuik(&self) -> &Kuik {
        self.ready().kuik.as_ref().expect("kuik is installed")
    }

    /// An image that pods can run: one nobody has seen yet, or on a cluster of others a public one.
    ///
    /// # Panics
    /// If the source registry does not take it.
    pub fn app_image(&self, name: &str) -> String {
        match self.cluster().machine() {
            Some(machine) => self.must(machine.publish(Source::Public, name)),
            None => std::env::var(APP_IMAGE_VARIABLE).unwrap_or_else(|_| PUBLIC_IMAGE.to_owned()),
        }
    }

    /// The image kuik is installed from.
    pub fn image(&self) -> &str {
        &self.ready().image
    }

    /// Says that kuik is no longer as it was installed, so that the next test installs it again.
    pub fn forget_kuik(&mut self) {
        self.ready_mut().kuik = None;
    }

    /// The value, or the end of the test with all of the error.
    #[track_caller]
    pub fn must<T>(&self, result: Result<T>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => panic!("{error:#}"),
        }
    }

    fn ready(&self) -> &Ready {
        self.ready.as_ref().expect("filled before it is handed out")
    }

    fn ready_mut(&mut self) -> &mut Ready {
        self.ready.as_mut().expect("filled before it is handed out")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            report::print(self.cluster());
        }
    }
}

/// Says so past the test runner, which shows nothing of a test that does not fail.
fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED: {test}: {reason}\n");
    // Nobody reads it if this fails.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Why no cluster can be had on this machine.
fn why_impossible() -> Option<&'static str> {
    if std::env::var_os(KUBECONFIG_VARIABLE).is_some() {
        return None;
    }
    if !is_root() {
        return Some("a Kubernetes cluster of our own needs root; or name another in KUIK_E2E_KUBECONFIG");
    }
    let namespaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "true"];
    let made = Command::new("unshare").args(namespaces).stderr(Stdio::null()).status();
    match made {
        Ok(status) if status.success() => None,
        _ => Some("this machine lets nobody make namespaces (a container without privileges?)"),
    }
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t0\t")))
}

fn start() -> Result<Ready> {
    let access = match std::env::var_os(KUBECONFIG_VARIABLE) {
        Some(path) => Access::Kubeconfig(path.into()),
        None => own(),
    };
    let cluster = Cluster::new(access);
    if let Some(machine) = cluster.machine() {
        machine.down().context("remove what an earlier test left")?;
        let owner = std::process::id().to_string();
        machine.up(&[OWN_CLUSTER.as_slice(), &["--owner", &owner]].concat())?;
    }
    let image = Kuik::provide_image(&cluster)?;
    Ok(Ready {
        cluster,
        image,
        kuik: None,
    })
}

/// A name of its own, so that two test programs on one machine do not meet.
fn own() -> Access {
    Access::Own {
        name: format!("e2e-{}", std::process::id()),
    }
}
