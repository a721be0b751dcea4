//! The async runtimes consensus can run on: tokio, and tokio with random choices that follow from a seed.

use openraft::AsyncRuntime;
use openraft_rt_tokio::TokioInstant;

#[cfg(feature = "sim")]
pub use seeded::{Seeded, seed};

/// A runtime for consensus. Implemented here only.
pub trait Runtime: AsyncRuntime<Instant = TokioInstant> {}

/// Plain tokio.
pub type Tokio = openraft_rt_tokio::TokioRuntime;

impl Runtime for Tokio {}

#[cfg(feature = "sim")]
mod seeded {
    use std::cell::RefCell;
    use std::convert::Infallible;
    use std::future::Future;
    use std::time::Duration;

    use openraft::OptionalSend;
    use openraft::async_runtime::AsyncRuntime;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng, TryRng};

    use super::Tokio;

    thread_local! {
        static RANDOM: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(0));
    }

    /// Sets where the random choices of this thread's consensus start. A simulation calls it once, first.
    pub fn seed(seed: u64) {
        RANDOM.with(|random| *random.borrow_mut() = SmallRng::seed_from_u64(seed));
    }

    /// tokio, but election timeouts are drawn from the thread's seeded generator. Right only where one thread runs
    /// everything, as in a simulation.
    #[derive(Debug)]
    pub struct Seeded(Tokio);

    impl super::Runtime for Seeded {}

    /// The thread's seeded generator.
    #[derive(Debug)]
    pub struct SeededRng;

    impl TryRng for SeededRng {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            Ok(RANDOM.with(|random| random.borrow_mut().next_u32()))
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            Ok(RANDOM.with(|random| random.borrow_mut().next_u64()))
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            RANDOM.with(|random| random.borrow_mut().fill_bytes(bytes));
            Ok(())
        }
    }

    impl AsyncRuntime for Seeded {
        type JoinError = <Tokio as AsyncRuntime>::JoinError;
        type JoinHandle<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
        type Sleep = <Tokio as AsyncRuntime>::Sleep;
        type Instant = <Tokio as AsyncRuntime>::Instant;
        type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
        type Timeout<R, T: Future<Output = R> + OptionalSend> = <Tokio as AsyncRuntime>::Timeout<R, T>;
        type ThreadLocalRng = SeededRng;
        type Mpsc = <Tokio as AsyncRuntime>::Mpsc;
        type Watch = <Tokio as AsyncRuntime>::Watch;
        type Oneshot = <Tokio as AsyncRuntime>::Oneshot;
        type Mutex<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::Mutex<T>;

        fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
        where
            T: Future + OptionalSend + 'static,
            T::Output: OptionalSend + 'static,
        {
            Tokio::spawn(future)
        }

        fn sleep(duration: Duration) -> Self::Sleep {
            Tokio::sleep(duration)
        }

        fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
            Tokio::sleep_until(deadline)
        }

        fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
            Tokio::timeout(duration, future)
        }

        fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
            deadline: Self::Instant,
            future: F,
        ) -> Self::Timeout<R, F> {
            Tokio::timeout_at(deadline, future)
        }

        fn is_panic(join_error: &Self::JoinError) -> bool {
            Tokio::is_panic(join_error)
        }

        fn thread_rng() -> SeededRng {
            SeededRng
        }

        fn new(threads: usize) -> Self {
            Seeded(Tokio::new(threads))
        }

        fn block_on<F, T>(&mut self, future: F) -> T
        where
            F: Future<Output = T>,
        {
            self.0.block_on(future)
        }
    }
}
