//! Which failures are worth another try, and when.
//!
//! Pure: the caller counts attempts, measures time and draws the random number. Only requests whose body has not
//! begun are repeated here; who holds part of a body resumes it with a range.

use std::time::Duration;

use crate::error::UpstreamError;

/// How often and how long to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub attempts_max: u32,
    /// The longest first pause; each further one may be twice as long.
    pub pause_base: Duration,
    /// The longest pause drawn.
    pub pause_max: Duration,
    /// No attempt starts later than this after the first.
    pub total_max: Duration,
    /// A longer `Retry-After` is not sat out here but handed to the caller.
    pub retry_after_max: Duration,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Hand the failure to the caller.
    GiveUp,
    /// Try again after this pause.
    After(Duration),
}

impl RetryPolicy {
    /// One attempt: for those who have another source to turn to.
    pub const NEVER: Self = Self {
        attempts_max: 1,
        pause_base: Duration::ZERO,
        pause_max: Duration::ZERO,
        total_max: Duration::ZERO,
        retry_after_max: Duration::ZERO,
    };

    /// Decides on the failure of attempt number `attempt` (from 1), `elapsed` after the first began.
    ///
    /// `random` is drawn evenly from 0 to 1; the pause is "full jitter", so that many clients of a registry that failed
    /// do not return in step.
    pub fn verdict(&self, failure: &UpstreamError, attempt: u32, elapsed: Duration, random: f64) -> Verdict {
        if attempt >= self.attempts_max || !worth_retrying(failure) {
            return Verdict::GiveUp;
        }
        let pause = match asked_wait(failure) {
            Some(asked) if asked > self.retry_after_max => return Verdict::GiveUp,
            Some(asked) => asked.max(self.pause(attempt, random)),
            None => self.pause(attempt, random),
        };
        if elapsed + pause > self.total_max {
            Verdict::GiveUp
        } else {
            Verdict::After(pause)
        }
    }

    fn pause(&self, attempt: u32, random: f64) -> Duration {
        let doubled = self.pause_base.saturating_mul(1 << (attempt - 1).min(16));
        doubled.min(self.pause_max).mul_f64(random.clamp(0.0, 1.0))
    }
}

impl Default for RetryPolicy {
    /// Three attempts within five seconds: enough for a dropped connection or one bad backend, short beside a pull.
    fn default() -> Self {
        Self {
            attempts_max: 3,
            pause_base: Duration::from_millis(100),
            pause_max: Duration::from_secs(1),
            total_max: Duration::from_secs(5),
            retry_after_max: Duration::from_secs(2),
        }
    }
}

/// A timeout has used up its patience already; what was denied, refused or is not there stays so.
fn worth_retrying(failure: &UpstreamError) -> bool {
    match failure {
        UpstreamError::Unavailable { .. } | UpstreamError::Corrupt { .. } => true,
        UpstreamError::RateLimited { after, .. } => after.is_some(),
        UpstreamError::NotFound { .. }
        | UpstreamError::Denied { .. }
        | UpstreamError::Timeout { .. }
        | UpstreamError::Refused { .. }
        | UpstreamError::Protocol { .. } => false,
    }
}

fn asked_wait(failure: &UpstreamError) -> Option<Duration> {
    match failure {
        UpstreamError::RateLimited { after, .. } | UpstreamError::Unavailable { after, .. } => *after,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::address::{ForbiddenAddress, ForbiddenKind};
    use crate::error::{FailureStatus, Phase, Target};

    const MS_100: Duration = Duration::from_millis(100);

    fn target() -> Target {
        Target::new("quay.io", "blob x")
    }

    fn unavailable(after: Option<Duration>) -> UpstreamError {
        UpstreamError::Unavailable {
            target: target(),
            after,
            source: Arc::new(FailureStatus(503)),
        }
    }

    fn limited(seconds: Option<u64>) -> UpstreamError {
        UpstreamError::RateLimited {
            target: target(),
            after: seconds.map(Duration::from_secs),
        }
    }

    #[test]
    fn only_what_may_pass_is_retried() {
        let forbidden = ForbiddenAddress {
            host: "h".into(),
            address: "::1".into(),
            kind: ForbiddenKind::Loopback,
        };
        let timeout = UpstreamError::Timeout {
            target: target(),
            phase: Phase::Headers,
            waited: MS_100,
        };
        let table = [
            (unavailable(None), Verdict::After(MS_100)),
            (
                unavailable(Some(Duration::from_secs(1))),
                Verdict::After(Duration::from_secs(1)),
            ),
            (unavailable(Some(Duration::from_secs(60))), Verdict::GiveUp),
            (limited(None), Verdict::GiveUp),
            (limited(Some(1)), Verdict::After(Duration::from_secs(1))),
            (limited(Some(60)), Verdict::GiveUp),
            (
                UpstreamError::Corrupt {
                    target: target(),
                    source: Arc::new(FailureStatus(0)),
                },
                Verdict::After(MS_100),
            ),
            (UpstreamError::NotFound { target: target() }, Verdict::GiveUp),
            (
                UpstreamError::Denied {
                    target: target(),
                    status: 403,
                    reason: None,
                },
                Verdict::GiveUp,
            ),
            (timeout, Verdict::GiveUp),
            (
                UpstreamError::Refused {
                    target: target(),
                    source: forbidden,
                },
                Verdict::GiveUp,
            ),
            (UpstreamError::protocol(&target(), "odd"), Verdict::GiveUp),
        ];
        for (failure, expected) in table {
            assert_eq!(
                RetryPolicy::default().verdict(&failure, 1, Duration::ZERO, 1.0),
                expected,
                "{failure}"
            );
        }
    }

    #[test]
    fn attempts_and_total_time_are_bounded() {
        let policy = RetryPolicy::default();
        assert_eq!(
            policy.verdict(&unavailable(None), 3, Duration::ZERO, 0.5),
            Verdict::GiveUp
        );
        assert_eq!(
            policy.verdict(&unavailable(None), 1, Duration::from_secs(5), 1.0),
            Verdict::GiveUp
        );
        assert_eq!(
            RetryPolicy::NEVER.verdict(&unavailable(None), 1, Duration::ZERO, 0.0),
            Verdict::GiveUp
        );
    }

    proptest! {
        #[test]
        fn no_pause_is_longer_than_the_policy_says(
            attempt in 1u32..200,
            attempts_max in 0u32..300,
            random in 0.0f64..=1.0,
        ) {
            let policy = RetryPolicy { attempts_max, ..RetryPolicy::default() };
            match policy.verdict(&unavailable(None), attempt, Duration::ZERO, random) {
                Verdict::After(pause) => {
                    prop_assert!(attempt < attempts_max);
                    prop_assert!(pause <= policy.pause_max);
                }
                Verdict::GiveUp => prop_assert!(attempt >= attempts_max),
            }
        }
    }
}
