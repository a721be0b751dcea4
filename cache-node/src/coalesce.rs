//! One flight per key: whoever asks for something that is being fetched waits for that fetch.
//!
//! The flight belongs to nobody's connection: it runs as a task of its own, and a client that hangs up changes nothing.
//! An answer may be kept for a moment, so that a burst of requests is one request to the source.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::task::TaskSet;
use tokio::sync::watch;
use tokio::time::Instant;

/// Coalesces fetches of `V` by `K`.
///
/// Guarantees: at most one fetch of a key is in flight; every caller of [`Coalescer::get`] gets the answer of a fetch that
/// was in flight when it asked, or that ended less than `keep` ago.
pub struct Coalescer<K, V> {
    name: &'static str,
    tasks: TaskSet,
    keys_max: usize,
    flights: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

enum Flight<V> {
    Fetching(watch::Receiver<Option<V>>),
    Landed { value: V, until: Instant },
}

impl<K, V> Coalescer<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Makes one whose flights run in `tasks`. At most `keys_max` keys are in flight or kept; beyond that a fetch runs
    /// for its caller alone.
    pub fn new(name: &'static str, tasks: TaskSet, keys_max: usize) -> Self {
        Self {
            name,
            tasks,
            keys_max,
            flights: Arc::default(),
        }
    }

    /// Answers from a flight, or starts one with `fetch`. `keep` says how long an answer serves those who ask later.
    ///
    /// Returns nothing if the flight ended without an answer, which only a panic or the end of the process does.
    /// Dropping the future leaves the flight alone.
    pub async fn get<F>(&self, key: K, fetch: F, keep: impl Fn(&V) -> Duration + Send + 'static) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut landing = match self.join(&key) {
            Joined::Landed(value) => return Some(value),
            Joined::Fetching(landing) => landing,
            Joined::Full => return Some(fetch.await),
            Joined::Started(tx, rx) => {
                self.fly(key, fetch, keep, tx);
                rx
            }
        };
        let landed = landing.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }

    fn join(&self, key: &K) -> Joined<V> {
        let now = Instant::now();
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        match flights.get(key) {
            Some(Flight::Fetching(rx)) if rx.has_changed().is_ok() || rx.borrow().is_some() => {
                return Joined::Fetching(rx.clone());
            }
            Some(Flight::Landed { value, until }) if now < *until => return Joined::Landed(value.clone()),
            _ => {}
        }
        if flights.len() >= self.keys_max {
            flights.retain(|_, flight| !flight.is_over(now));
        }
        if flights.len() >= self.keys_max {
            return Joined::Full;
        }
        let (tx, rx) = watch::channel(None);
        flights.insert(key.clone(), Flight::Fetching(rx.clone()));
        Joined::Started(tx, rx)
    }

    fn fly<F>(&self, key: K, fetch: F, keep: impl Fn(&V) -> Duration + Send + 'static, tx: watch::Sender<Option<V>>)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let flights = Arc::clone(&self.flights);
        self.tasks.spawn(self.name, async move {
            let value = fetch.await;
            let keep = keep(&value);
            {
                let mut flights = flights.lock().unwrap_or_else(PoisonError::into_inner);
                if keep.is_zero() {
                    flights.remove(&key);
                } else {
                    flights.insert(
                        key,
                        Flight::Landed {
                            value: value.clone(),
                            until: Instant::now() + keep,
                        },
                    );
                }
            }
            tx.send_replace(Some(value));
        });
    }
}

enum Joined<V> {
    Landed(V),
    Fetching(watch::Receiver<Option<V>>),
    Started(watch::Sender<Option<V>>, watch::Receiver<Option<V>>),
    Full,
}

impl<V> Flight<V> {
    fn is_over(&self, now: Instant) -> bool {
        match self {
            Self::Fetching(rx) => rx.has_changed().is_err(),
            Self::Landed { until, .. } => now >= *until,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn coalescer(keys_max: usize) -> Coalescer<u32, usize> {
        Coalescer::new("test flight", TaskSet::new(CancellationToken::new(), |_| {}), keys_max)
    }

    fn fetch(calls: &Arc<AtomicUsize>) -> impl Future<Output = usize> + Send + 'static {
        let calls = Arc::clone(calls);
        async move {
            let nth = calls.fetch_add(1, Ordering::SeqCst) + 1;
            sleep(SECOND).await;
            nth
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_share_one_fetch() {
        let (coalescer, calls) = (coalescer(10), Arc::default());
        let asks = (0..100).map(|_| coalescer.get(1, fetch(&calls), |_| Duration::ZERO));
        let answers = futures::future::join_all(asks).await;
        assert!(answers.iter().all(|answer| *answer == Some(1)));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_serves_for_as_long_as_it_is_kept() {
        let (coalescer, calls) = (coalescer(10), Arc::default());
        assert_eq!(coalescer.get(1, fetch(&calls), |_| SECOND).await, Some(1));
        sleep(SECOND / 2).await;
        assert_eq!(coalescer.get(1, fetch(&calls), |_| SECOND).await, Some(1));
        sleep(SECOND).await;
        assert_eq!(coalescer.get(1, fetch(&calls), |_| SECOND).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_flight_outlives_the_one_who_started_it() {
        let (coalescer, calls) = (coalescer(10), Arc::default());
        let first = coalescer.get(1, fetch(&calls), |_| Duration::ZERO);
        assert!(tokio::time::timeout(SECOND / 2, first).await.is_err());
        assert_eq!(coalescer.get(1, fetch(&calls), |_| Duration::ZERO).await, Some(1));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_no_hang_and_the_next_ask_fetches_again() {
        let (coalescer, calls) = (coalescer(10), Arc::default());
        let dead = coalescer.get(1, async { panic!("a bug") }, |_| Duration::ZERO).await;
        assert_eq!(dead, None);
        assert_eq!(coalescer.get(1, fetch(&calls), |_| Duration::ZERO).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_bounded_and_what_is_over_makes_room() {
        let (coalescer, calls) = (coalescer(1), Arc::default());
        let both = futures::future::join(
            coalescer.get(1, fetch(&calls), |_| SECOND),
            coalescer.get(2, fetch(&calls), |_| SECOND),
        );
        both.await;
        assert_eq!(coalescer.flights.lock().unwrap().len(), 1);
        sleep(2 * SECOND).await;
        coalescer.get(3, fetch(&calls), |_| SECOND).await;
        assert!(coalescer.flights.lock().unwrap().contains_key(&3));
    }
}
