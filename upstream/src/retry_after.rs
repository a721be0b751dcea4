//! How long a registry asks to be left alone.
//!
//! Pure. Reads `Retry-After` (seconds or a date) and Docker Hub's `X-Retry-After`, which was seen to carry a unix
//! timestamp.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// Longer requests are cut to this: Hub's longest window is six hours, and an hour wrongly believed is bad enough.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Numbers above this are a moment, not a length (it is the year 2001).
const TIMESTAMP_MIN: u64 = 1_000_000_000;

/// Reads the wait a response asks for, at most [`RETRY_AFTER_MAX`].
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text(RETRY_AFTER.as_str()).and_then(|value| wait(value, now));
    asked
        .or_else(|| text("x-retry-after").and_then(|value| wait(value, now)))
        .map(|wait| wait.min(RETRY_AFTER_MAX))
}

fn wait(value: &str, now: SystemTime) -> Option<Duration> {
    let until = |moment: SystemTime| moment.duration_since(now).unwrap_or(Duration::ZERO);
    match value.parse::<f64>() {
        Ok(seconds) if seconds >= TIMESTAMP_MIN as f64 => {
            let since_epoch = Duration::try_from_secs_f64(seconds).ok()?;
            UNIX_EPOCH.checked_add(since_epoch).map(until)
        }
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => httpdate::parse_http_date(value).ok().map(until),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        retry_after(&headers, UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    }

    #[test]
    fn seconds_dates_and_timestamps_are_understood() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(read("retry-after", "7"), seconds(7));
        assert_eq!(read("retry-after", "Tue, 14 Nov 2023 22:13:50 GMT"), seconds(30));
        assert_eq!(read("retry-after", "Tue, 14 Nov 2023 22:00:00 GMT"), seconds(0));
        assert_eq!(read("x-retry-after", "1700000042"), seconds(42));
    }

    #[test]
    fn nonsense_is_nothing_and_too_long_is_cut() {
        assert_eq!(read("retry-after", "soon"), None);
        assert_eq!(read("retry-after", "-5"), None);
        assert_eq!(read("retry-after", "NaN"), None);
        assert_eq!(read("retry-after", "999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(read("retry-after", "1e300"), None);
    }
}
