//! Scripted sources, and fills over a store in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;

/// Longest wait of a story, in its own time.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Pieces a scripted source sends.
const PIECE_BYTES: usize = 100_000;

/// What a source does, one after the other.
#[derive(Clone)]
pub(super) enum Step {
    /// Send up to this offset.
    SendTo(usize),
    Sleep(Duration),
    Fail(SourceError),
    Panic,
}

/// A source that follows a script. It starts over each time it is opened, skipping what lies before the offset.
#[derive(Clone)]
pub(super) struct Script {
    content: Bytes,
    total: Option<u64>,
    open_error: Option<SourceError>,
    steps: Vec<Step>,
    alive: bool,
}

impl Script {
    /// Sends parts of `content`, and lives as long as it is silent.
    pub(super) fn of(content: &Bytes) -> Self {
        Self {
            content: content.clone(),
            total: Some(content.len() as u64),
            open_error: None,
            steps: Vec::new(),
            alive: true,
        }
    }

    /// Fails when it is opened.
    pub(super) fn refusing(error: SourceError) -> Self {
        let mut script = Self::of(&Bytes::new());
        script.open_error = Some(error);
        script
    }

    pub(super) fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(super) fn send(self, to: usize) -> Self {
        self.step(Step::SendTo(to))
    }

    pub(super) fn rest(self) -> Self {
        let to = self.content.len();
        self.send(to)
    }

    pub(super) fn sleep(self, seconds: u64) -> Self {
        self.step(Step::Sleep(Duration::from_secs(seconds)))
    }

    pub(super) fn fail(self) -> Self {
        let why = "reset".to_owned();
        self.step(Step::Fail(SourceError::Unavailable { why, after: None }))
    }

    pub(super) fn total(mut self, total: Option<u64>) -> Self {
        self.total = total;
        self
    }

    pub(super) fn dead(mut self) -> Self {
        self.alive = false;
        self
    }

    fn items(&self, offset: u64) -> Vec<(Duration, Result<Bytes, SourceError>)> {
        let mut at = offset as usize;
        let mut items = Vec::new();
        let mut pause = Duration::ZERO;
        for step in &self.steps {
            match step {
                Step::Sleep(time) => pause += *time,
                Step::Fail(error) => items.push((std::mem::take(&mut pause), Err(error.clone()))),
                Step::Panic => items.push((Duration::MAX, Ok(Bytes::new()))),
                Step::SendTo(to) => {
                    while at < *to {
                        let end = to.min(&(at + PIECE_BYTES)).to_owned();
                        items.push((std::mem::take(&mut pause), Ok(self.content.slice(at..end))));
                        at = end;
                    }
                }
            }
        }
        if !pause.is_zero() {
            items.push((pause, Ok(Bytes::new())));
        }
        items
    }
}

type Opens = Arc<Mutex<Vec<(String, u64)>>>;

struct ScriptedSource {
    label: String,
    script: Script,
    opens: Opens,
}

#[async_trait]
impl Source for ScriptedSource {
    fn label(&self) -> String {
        self.label.clone()
    }

    async fn open(&self, offset: u64) -> Result<SourceStream, SourceError> {
        self.opens.lock().unwrap().push((self.label.clone(), offset));
        if let Some(error) = &self.script.open_error {
            return Err(error.clone());
        }
        let items = stream::iter(self.script.items(offset)).then(|(pause, item)| async move {
            assert_ne!(pause, Duration::MAX, "a scripted panic");
            if !pause.is_zero() {
                sleep(pause).await;
            }
            item
        });
        Ok(SourceStream {
            total: self.script.total,
            stream: items.boxed(),
        })
    }

    async fn alive(&self) -> bool {
        self.script.alive
    }
}

/// Gives its sources one after the other, and notes why.
struct ScriptedPlan {
    sources: VecDeque<ScriptedSource>,
    failures: Arc<Mutex<Vec<SourceFailure>>>,
}

impl SourcePlan for ScriptedPlan {
    fn next(&mut self, failed: Option<&SourceFailure>) -> Option<Box<dyn Source>> {
        self.failures.lock().unwrap().extend(failed.cloned());
        self.sources
            .pop_front()
            .map(|source| Box::new(source) as Box<dyn Source>)
    }
}

struct Counter(AtomicU64);

impl GenerationSource for Counter {
    fn next(&self) -> Gen {
        let counter = self.0.fetch_add(1, Ordering::Relaxed);
        Gen {
            epoch: 1,
            node: meta::NodeId::new(1),
            boot_count: 1,
            counter,
        }
    }
}

struct Announced(mpsc::Sender<Filled>);

#[async_trait]
impl CommittedSink for Announced {
    async fn committed(&self, filled: Filled) {
        self.0.send(filled).await.unwrap();
    }
}

/// Fills over a store in memory.
pub(super) struct Kit {
    pub(super) fills: Fills,
    pub(super) store: MemoryBlobStore,
    pub(super) tasks: TaskSet,
    opens: Opens,
    failures: Arc<Mutex<Vec<SourceFailure>>>,
    announced: AsyncMutex<mpsc::Receiver<Filled>>,
}

impl Kit {
    pub(super) fn new() -> Self {
        Self::with_limits(FillLimits::default())
    }

    pub(super) fn with_limits(limits: FillLimits) -> Self {
        let store = MemoryBlobStore::default();
        Self::over(Arc::new(store.clone()), store, limits)
    }

    pub(super) fn over(any_store: Arc<dyn BlobStore>, store: MemoryBlobStore, limits: FillLimits) -> Self {
        let tasks = TaskSet::new(CancellationToken::new(), |_| {});
        let (tx, announced) = mpsc::channel(16);
        let generations = Arc::new(Counter(AtomicU64::new(100)));
        let fills = Fills::new(any_store, generations, Arc::new(Announced(tx)), tasks.clone(), limits);
        Self {
            fills,
            store,
            tasks,
            opens: Arc::default(),
            failures: Arc::default(),
            announced: AsyncMutex::new(announced),
        }
    }

    /// Attaches with a plan that tries the scripts in order, and knows the blob's length.
    pub(super) fn attach(
        &self,
        content: &Bytes,
        scripts: impl IntoIterator<Item = Script>,
    ) -> Result<FillReader, FillError> {
        self.attach_sized(content, Some(content.len() as u64), scripts)
    }

    pub(super) fn attach_sized(
        &self,
        content: &Bytes,
        size_bytes: Option<u64>,
        scripts: impl IntoIterator<Item = Script>,
    ) -> Result<FillReader, FillError> {
        let plan = self.plan("origin", size_bytes, scripts);
        self.fills.attach(&Digest::sha256(content), plan)
    }

    pub(super) fn attach_as(
        &self,
        origin: &str,
        content: &Bytes,
        scripts: impl IntoIterator<Item = Script>,
    ) -> Result<FillReader, FillError> {
        let plan = self.plan(origin, Some(content.len() as u64), scripts);
        self.fills.attach(&Digest::sha256(content), plan)
    }

    fn plan(&self, origin: &str, size_bytes: Option<u64>, scripts: impl IntoIterator<Item = Script>) -> FillPlan {
        FillPlan {
            origin: origin.to_owned(),
            size_bytes,
            sources: self.sources(scripts),
        }
    }

    /// A plan's sources, tried in order.
    pub(super) fn sources(&self, scripts: impl IntoIterator<Item = Script>) -> Box<dyn SourcePlan> {
        let source = |(n, script)| ScriptedSource {
            label: format!("source-{n}"),
            script,
            opens: Arc::clone(&self.opens),
        };
        Box::new(ScriptedPlan {
            sources: scripts.into_iter().enumerate().map(source).collect(),
            failures: Arc::clone(&self.failures),
        })
    }

    /// Sources opened so far, with the offset.
    pub(super) fn opens(&self) -> Vec<(String, u64)> {
        self.opens.lock().unwrap().clone()
    }

    /// Failures the plans were told.
    pub(super) fn failures(&self) -> Vec<SourceFailure> {
        self.failures.lock().unwrap().clone()
    }

    /// Waits for the next blob to be announced as committed.
    pub(super) async fn committed(&self) -> Filled {
        let mut announced = self.announced.lock().await;
        timeout(DEADLINE, announced.recv())
            .await
            .expect("committed in time")
            .unwrap()
    }

    /// Waits until nothing is in flight or remembered.
    pub(super) async fn settled(&self) {
        let over = async {
            while !self.tasks.is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, over).await.expect("settled in time");
    }
}

pub(super) async fn read_all(stream: FillStream) -> Result<Vec<u8>, FillError> {
    let (got, error) = read(stream).await;
    error.map_or(Ok(got), Err)
}

/// Reads a stream that must fail: what came, and the error.
pub(super) async fn read_until_error(stream: FillStream) -> (Vec<u8>, FillError) {
    let (got, error) = read(stream).await;
    (got, error.expect("the stream must end in an error"))
}

pub(super) async fn read(mut stream: FillStream) -> (Vec<u8>, Option<FillError>) {
    let mut got = Vec::new();
    while let Some(item) = stream.next().await {
        match item {
            Ok(bytes) => got.extend_from_slice(&bytes),
            Err(error) => return (got, Some(error)),
        }
    }
    (got, None)
}
