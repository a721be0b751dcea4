//! The one task that owns the state: takes changes in, makes plans, has them carried out.
//!
//! What begins when is the business of [`Schedule`]; here is the loop around it.

use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::ResourceExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::action::{Action, ActionKey};
use crate::executor::{ActionError, Executor, Outcome};
use crate::metrics;
use crate::news::News;
use crate::plan::{Plan, Policy, plan};
use crate::schedule::Schedule;
use crate::state::{Change, Seen, State};

/// Changes come in bursts; one plan is made for those of this long.
const SETTLE: Duration = Duration::from_millis(50);
/// A plan is made this often though nothing changed, as time alone makes things due.
const TICK: Duration = Duration::from_secs(5);
/// Changes taken in at once.
const BATCH: usize = 512;
/// What an action may take in all; every call inside has a deadline of its own.
const ACTION_DEADLINE: Duration = Duration::from_secs(60);

/// Owns the state.
pub(crate) struct Reconciler {
    state: State,
    policy: Policy,
    executor: Executor,
    schedule: Schedule,
    news: News,
    /// When the last plan was made that knew all pods; nothing while the tier cannot be told of places.
    planned: watch::Sender<Option<Instant>>,
}

type Done = (ActionKey, Result<Outcome, ActionError>);

impl Reconciler {
    pub(crate) fn new(policy: Policy, executor: Executor, objects_max: usize) -> Self {
        Self {
            state: State::default(),
            policy,
            executor,
            schedule: Schedule::new(objects_max),
            news: News::default(),
            planned: watch::channel(None).0,
        }
    }

    /// When the last plan was made that knew all pods; nothing while the tier cannot be told of places.
    pub(crate) fn planned(&self) -> watch::Receiver<Option<Instant>> {
        self.planned.subscribe()
    }

    /// Runs until `changes` end.
    pub(crate) async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        let mut running: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
        let mut batch = Vec::with_capacity(BATCH);
        let mut due = Instant::now() + SETTLE;
        loop {
            tokio::select! {
                n_changes = changes.recv_many(&mut batch, BATCH) => {
                    if n_changes == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|change| self.state.apply(change));
                    due = due.min(Instant::now() + SETTLE);
                }
                Some((key, done)) = running.next() => {
                    self.settle(key, done);
                    due = due.min(Instant::now() + SETTLE);
                }
                () = tokio::time::sleep_until(due) => {
                    self.make_plan();
                    due = Instant::now() + TICK;
                }
            }
            while let Some(action) = self.schedule.next() {
                running.push(self.begin(action));
            }
        }
    }

    fn make_plan(&mut self) {
        // Whole seconds, as Kubernetes keeps times: what is read back must equal what was written.
        let now = whole_seconds(Timestamp::now());
        self.state.proxies.observe(self.state.pods.iter(), now);
        let Plan { actions, used_grants } = plan(&self.state, &self.policy, now);
        self.state.grants.note_used(&used_grants, now);
        let has_places = actions.iter().any(|action| action.key() == ActionKey::Places);
        self.state.placing.plan(has_places, now);
        metrics::state(&self.state);
        self.tell_news();
        self.schedule.replace(actions, Instant::now());
        self.tell_planned();
    }

    fn tell_planned(&self) {
        if self.state.placing.is_failing() {
            self.planned.send_replace(None);
        } else if self.state.pods.is_synced() {
            self.planned.send_replace(Some(Instant::now()));
        }
    }

    fn begin(&self, action: Action) -> BoxFuture<'static, Done> {
        let key = action.key();
        let executor = self.executor.clone();
        Box::pin(async move {
            let done = tokio::time::timeout(ACTION_DEADLINE, executor.carry_out(action)).await;
            (key, done.unwrap_or(Err(ActionError::Deadline)))
        })
    }

    fn settle(&mut self, key: ActionKey, done: Result<Outcome, ActionError>) {
        self.schedule.settle(key.clone(), done.is_ok(), Instant::now());
        if key == ActionKey::Places {
            self.state.placing.settle(done.is_ok());
            self.tell_planned();
        }
        match done {
            Ok(outcome) => self.remember(outcome),
            Err(error) => error.report(&format!("{key:?}")),
        }
    }

    fn remember(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done => {}
            Outcome::Image(object) => {
                self.state
                    .apply(Change::Image(Seen::Changed(object.name_any(), *object)));
            }
            Outcome::Repository(object) => {
                self.state
                    .apply(Change::Repository(Seen::Changed(object.name_any(), *object)));
            }
            Outcome::Desired(request) => self.state.told.heard(request),
            Outcome::Placed(request) => self.state.told.heard_places(request),
            Outcome::GrantsListed {
                grants,
                asked_at,
                doubts,
            } => self.state.grants.answered(grants, asked_at, doubts),
            Outcome::Revoked(key) => self.state.grants.forget(&key),
            Outcome::Granted {
                key,
                result,
                tried,
                notice,
            } => {
                let before = self.state.grants.get(&key).map(|grant| grant.result);
                if let Some(notice) = notice.filter(|_| before != Some(result)) {
                    self.news.add(key.repository.clone(), notice);
                }
                self.state
                    .grants
                    .heard(key, result, tried, whole_seconds(Timestamp::now()));
            }
        }
    }

    /// Nobody waits for people to be told.
    fn tell_news(&mut self) {
        let news = self.news.take(&self.state.repositories);
        news.into_iter().for_each(|news| self.schedule.tell(news));
    }
}

fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}
