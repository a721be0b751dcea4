//! One run: hosts, steps, faults, checks, and the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use raft::MemoryLog;
use turmoil::Sim;

use crate::disk::{Honesty, SimulatedLog};
use crate::faults::{Fault, Faults};
use crate::invariants::{Invariants, Violation};
use crate::journal::Journal;
use crate::node::{Place, SharedRandom};
use crate::oracle::Oracle;

const NODES: u32 = 3;
/// How long the healed cluster may take to agree.
const CONVERGENCE_MAX: Duration = Duration::from_secs(60);
const LATENCY_MIN: Duration = Duration::from_millis(1);
const LATENCY_MAX: Duration = Duration::from_millis(20);
/// Beyond what any run takes; turmoil wants an end.
const SIMULATION_MAX: Duration = Duration::from_secs(3600);

/// What a run is made of, besides its seed.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long faults go on, in simulated time.
    pub faults_for: Duration,
    /// What the disks are like.
    pub disks: Honesty,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            faults_for: Duration::from_secs(30),
            disks: Honesty::Honest,
        }
    }
}

/// What happened in a run.
#[derive(Debug)]
pub struct Report {
    /// Every event, in order. Equal for equal seeds and options.
    pub journal: Vec<String>,
    /// Writes that were acknowledged, by kind.
    pub acknowledged: BTreeMap<String, usize>,
    /// Entries that were committed.
    pub committed: u64,
    /// Simulated time.
    pub elapsed: Duration,
}

/// A property that did not hold, with what led to it.
#[derive(Debug)]
pub struct Failure {
    /// Which seed.
    pub seed: u64,
    /// What did not hold.
    pub violation: String,
    /// Every event up to then.
    pub journal: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.violation)
    }
}

impl std::error::Error for Failure {}

struct World<'a> {
    sim: Sim<'a>,
    places: Vec<Place>,
    invariants: Invariants,
    faults: Faults,
    journal: Journal,
    oracle: Oracle,
    leaders_noted: usize,
}

/// Runs the simulation of `seed` on this thread.
///
/// # Errors
/// [`Failure`]: the first property that did not hold.
pub fn run(seed: u64, options: &Options) -> Result<Report, Failure> {
    raft::runtime::seed(seed);
    let mut world = World::new(seed, options);
    match world.live(options) {
        Ok(()) => Ok(world.report()),
        Err(violation) => Err(Failure {
            seed,
            violation,
            journal: world.journal.lines(),
        }),
    }
}

impl World<'_> {
    fn new(seed: u64, options: &Options) -> Self {
        let random = SharedRandom::new(seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(SIMULATION_MAX)
            .min_message_latency(LATENCY_MIN)
            .max_message_latency(LATENCY_MAX)
            .enable_random_order()
            .build();
        let oracle = Oracle::default();
        let place = |ordinal| {
            let log = SimulatedLog {
                memory: MemoryLog::new(),
                honesty: options.disks,
            };
            Place::new(ordinal, NODES, log, random.clone())
        };
        let places: Vec<Place> = (0..NODES).map(place).collect();
        for place in &places {
            let (place, oracle) = (place.clone(), oracle.clone());
            sim.host(place.name.clone(), move || place.clone().run(oracle.clone()));
        }
        let faults = Faults::new(&places, random);
        let (invariants, journal) = (Invariants::default(), Journal::default());
        World {
            sim,
            places,
            invariants,
            faults,
            journal,
            oracle,
            leaders_noted: 0,
        }
    }

    fn live(&mut self, options: &Options) -> Result<(), Violation> {
        self.until(CONVERGENCE_MAX, "the cluster forms", World::has_formed)?;
        self.note("formed".to_owned());
        let end = self.sim.elapsed() + options.faults_for;
        while self.sim.elapsed() < end {
            self.step()?;
            for fault in self.faults.due(self.sim.elapsed()) {
                self.inflict(&fault);
            }
        }
        for fault in self.faults.heal() {
            self.inflict(&fault);
        }
        self.note("healed".to_owned());
        self.until(CONVERGENCE_MAX, "the healed nodes agree", World::agrees)?;
        self.note(format!("agreed on {} entries", self.invariants.committed()));
        self.nothing_acknowledged_is_missing()
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.sim.step().map_err(|error| format!("a host failed: {error}"))?;
        self.invariants.check(&self.places)?;
        let new: Vec<String> = self
            .invariants
            .leaders()
            .skip(self.leaders_noted)
            .map(|(term, name)| format!("{name} leads term {term}"))
            .collect();
        self.leaders_noted += new.len();
        new.into_iter().for_each(|event| self.note(event));
        Ok(())
    }

    fn until(&mut self, limit: Duration, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        let end = self.sim.elapsed() + limit;
        while !done(self) {
            if self.sim.elapsed() >= end {
                return Err(format!("not within {limit:?}: {what}"));
            }
            self.step()?;
        }
        Ok(())
    }

    fn has_formed(&self) -> bool {
        self.places.iter().all(|place| {
            let status = place.handle().map(|handle| handle.status());
            status.is_some_and(|status| status.borrow().voters.len() == NODES as usize)
        })
    }

    /// Everyone runs and has applied everything that was committed when this was asked.
    fn agrees(&self) -> bool {
        let target = self.invariants.committed();
        self.places
            .iter()
            .all(|place| place.handle().is_some_and(|handle| handle.state_hash().0 >= target))
    }

    fn nothing_acknowledged_is_missing(&self) -> Result<(), Violation> {
        for place in &self.places {
            let handle = place.handle().ok_or_else(|| format!("{} does not run", place.name))?;
            if let Some(missing) = self.oracle.missing_from(&handle.local()) {
                return Err(format!("{} lacks an acknowledged write: {missing:?}", place.name));
            }
        }
        Ok(())
    }

    fn inflict(&mut self, fault: &Fault) {
        let name = |at: &usize| self.places[*at].name.clone();
        match fault {
            Fault::Crash(host) => {
                self.sim.crash(name(host));
                self.places[*host].lose_power();
            }
            Fault::Restart(host) => self.sim.bounce(name(host)),
            Fault::Part(a, b) => self.sim.partition(name(a), name(b)),
            Fault::PartOneWay(a, b) => self.sim.partition_oneway(name(a), name(b)),
            Fault::Repair(a, b) => self.sim.repair(name(a), name(b)),
        }
        self.note(format!("{fault:?}"));
    }

    fn note(&self, event: String) {
        let acknowledged = self.oracle.acknowledged().len();
        let event = format!(
            "{event} (committed {}, acknowledged {acknowledged})",
            self.invariants.committed()
        );
        self.journal.note(self.sim.elapsed(), event);
    }

    fn report(&self) -> Report {
        Report {
            journal: self.journal.lines(),
            acknowledged: self.oracle.summary(),
            committed: self.invariants.committed(),
            elapsed: self.sim.elapsed(),
        }
    }
}
