//! Telling a slow source from a dead node.
//!
//! Whoever waits on a cache node and hears nothing for a second asks it `GET /v2/` on another connection. An answer
//! means that the node lives and its own source is slow: keep waiting, and ask again each second. No answer means: go
//! to the next source. [`answer`] wraps a wait for headers, [`guard`] a body; [`no_progress`] is the plain deadline
//! towards source registries, which have no such question to ask.
//!
//! Time counts only while someone waits: a slow reader of a body is no silence.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use tokio::time::{Instant, timeout};

/// When to ask, and when to stop waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilencePolicy {
    /// Silence after which the peer is asked whether it lives, and asked again.
    pub quiet_after: Duration,
    /// How long the peer has to answer that.
    pub ping_deadline: Duration,
    /// Silence after which even a living peer is given up; the bound of the whole wait.
    pub progress_deadline: Duration,
}

/// Why waiting ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// The peer does not answer at all: go to the next source.
    #[error("silent for {quiet_for:?} and does not answer")]
    Dead {
        /// How long nothing was heard.
        quiet_for: Duration,
    },
    /// The peer lives but sent nothing for too long.
    #[error("no progress for {quiet_for:?}")]
    Stalled {
        /// How long nothing was heard.
        quiet_for: Duration,
    },
}

impl Default for SilencePolicy {
    /// Ask after a second, allow a second for the answer, and never wait longer than two sources may take: a node ends
    /// a fetch that makes no progress for 30 s and may then try another source.
    fn default() -> Self {
        Self {
            quiet_after: Duration::from_secs(1),
            ping_deadline: Duration::from_secs(1),
            progress_deadline: Duration::from_secs(90),
        }
    }
}

/// Waits for `future`, asking `ping` whether the peer lives whenever it is quiet.
///
/// The wait goes on while the question is asked, so an answer that comes meanwhile is taken. Dropping it drops both.
///
/// # Errors
/// [`Silence`].
pub async fn answer<F, P, Q>(future: F, policy: SilencePolicy, ping: P) -> Result<F::Output, Silence>
where
    F: Future,
    P: Fn() -> Q,
    Q: Future<Output = bool>,
{
    let mut future = pin!(future);
    let started = Instant::now();
    loop {
        let left = policy.progress_deadline.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(Silence::Stalled {
                quiet_for: started.elapsed(),
            });
        }
        if let Ok(output) = timeout(policy.quiet_after.min(left), &mut future).await {
            return Ok(output);
        }
        let alive = tokio::select! {
            biased;
            output = &mut future => return Ok(output),
            alive = timeout(policy.ping_deadline, ping()) => alive.unwrap_or(false),
        };
        if !alive {
            return Err(Silence::Dead {
                quiet_for: started.elapsed(),
            });
        }
    }
}

/// Passes `body` on, asking `ping` whether the peer lives whenever it is quiet; ends with a [`Silence`] error if not.
pub fn guard<S, T, E, P, Q>(body: S, policy: SilencePolicy, ping: P) -> impl Stream<Item = Result<T, E>>
where
    S: Stream<Item = Result<T, E>>,
    E: From<Silence>,
    P: Fn() -> Q,
    Q: Future<Output = bool>,
{
    stream::unfold(Some((Box::pin(body), ping)), move |state| async move {
        let (mut body, ping) = state?;
        match answer(body.next(), policy, &ping).await {
            Ok(Some(Ok(item))) => Some((Ok(item), Some((body, ping)))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(silence) => Some((Err(silence.into()), None)),
        }
    })
}

/// Passes `body` on and ends it with [`Silence::Stalled`] when nothing comes for `limit`.
pub fn no_progress<S, T, E>(body: S, limit: Duration) -> impl Stream<Item = Result<T, E>>
where
    S: Stream<Item = Result<T, E>>,
    E: From<Silence>,
{
    stream::unfold(Some(Box::pin(body)), move |state| async move {
        let mut body = state?;
        match timeout(limit, body.next()).await {
            Ok(Some(Ok(item))) => Some((Ok(item), Some(body))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(Silence::Stalled { quiet_for: limit }.into()), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::sleep;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn slow(gaps: Vec<u64>) -> impl Stream<Item = Result<usize, Silence>> {
        stream::iter(gaps.into_iter().enumerate()).then(|(index, gap)| async move {
            sleep(Duration::from_millis(gap)).await;
            Ok(index)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_pings_is_waited_for() {
        let pings = Cell::new(0);
        let ping = || async {
            pings.set(pings.get() + 1);
            true
        };
        let found = answer(async { sleep(10 * S + S / 2).await }, SilencePolicy::default(), ping).await;
        assert_eq!(found, Ok(()));
        assert_eq!(pings.get(), 10, "asked once per second of silence");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_peer_is_left_after_two_seconds() {
        let started = Instant::now();
        let found = answer(
            std::future::pending::<()>(),
            SilencePolicy::default(),
            std::future::pending,
        )
        .await;
        assert_eq!(found, Err(Silence::Dead { quiet_for: 2 * S }));
        assert_eq!(started.elapsed(), 2 * S);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_ping_ends_the_wait_at_once() {
        let found = answer(std::future::pending::<()>(), SilencePolicy::default(), || async {
            false
        })
        .await;
        assert_eq!(found, Err(Silence::Dead { quiet_for: S }));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_during_the_ping_is_taken() {
        let found = answer(sleep(S + S / 2), SilencePolicy::default(), std::future::pending).await;
        assert_eq!(found, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn even_a_living_peer_has_a_bound() {
        let found = answer(std::future::pending::<()>(), SilencePolicy::default(), || async {
            true
        })
        .await;
        assert_eq!(found, Err(Silence::Stalled { quiet_for: 90 * S }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_passes_until_its_peer_dies() {
        let asked = Cell::new(0);
        let ping = || async {
            asked.set(asked.get() + 1);
            asked.get() < 3
        };
        let found: Vec<_> = guard(slow(vec![0, 2500, 0, 60_000]), SilencePolicy::default(), ping)
            .collect()
            .await;
        assert_eq!(found, [Ok(0), Ok(1), Ok(2), Err(Silence::Dead { quiet_for: S })]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not_silence() {
        let mut body = pin!(guard(slow(vec![0, 0, 0]), SilencePolicy::default(), || async { false }));
        for expected in 0..3 {
            sleep(100 * S).await;
            assert_eq!(body.next().await, Some(Ok(expected)));
        }
        assert_eq!(body.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_progress_ends_with_an_error() {
        let found: Vec<_> = no_progress(slow(vec![0, 29_000, 31_000]), 30 * S).collect().await;
        assert_eq!(found, [Ok(0), Ok(1), Err(Silence::Stalled { quiet_for: 30 * S })]);
    }
}
