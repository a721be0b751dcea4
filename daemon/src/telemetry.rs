//! Logs and metrics: set up once per process.
//!
//! Logs go to standard error, as text or JSON; `KUIK_LOG` filters them by target and level
//! (`info,proxy=debug`), without the regular expressions of tracing's larger filter, which cost more memory than
//! the rest of an idle proxy. Metrics are Prometheus histograms, counters and gauges, rendered by the admin
//! endpoint.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::task::TaskSet;

/// Which lines are logged: levels per target, `info` by default.
pub const LOG_ENV: &str = "KUIK_LOG";
/// How lines are logged: `text` (the default) or `json`.
pub const LOG_FORMAT_ENV: &str = "KUIK_LOG_FORMAT";

/// Chatty libraries say nothing below a warning unless asked for by name.
const QUIET_TARGETS: [&str; 6] = ["h2", "hyper", "hyper_util", "openraft", "rustls", "tonic"];

/// Samples wait in memory until they are folded into buckets, which nobody else does while nobody scrapes.
const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

const SECONDS_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];
const BYTES_BUCKETS: [f64; 8] = [1e3, 16e3, 256e3, 4e6, 64e6, 256e6, 1e9, 16e9];

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `KUIK_LOG` is not a list of levels and targets.
    #[error("{LOG_ENV}={value:?} is not a log filter such as info,proxy=debug")]
    Filter {
        /// What it was set to.
        value: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// `KUIK_LOG_FORMAT` is not a known format.
    #[error("{LOG_FORMAT_ENV}={value:?} is neither text nor json")]
    Format {
        /// What it was set to.
        value: String,
    },
    /// Another subscriber is there already.
    #[error("set up logs")]
    Subscriber(#[from] TryInitError),
}

/// Starts logging to standard error as the environment says, and reports panics as log lines.
///
/// # Errors
/// [`TelemetryError::Filter`] and [`TelemetryError::Format`] for a wrong environment variable;
/// [`TelemetryError::Subscriber`] if logging has been started before.
pub fn init() -> Result<(), TelemetryError> {
    let filter = filter(std::env::var(LOG_ENV).ok())?;
    let json = is_json(std::env::var(LOG_FORMAT_ENV).ok())?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn filter(asked: Option<String>) -> Result<Targets, TelemetryError> {
    let defaults = Targets::new().with_default(LevelFilter::INFO);
    let quiet = QUIET_TARGETS.map(|target| (target, LevelFilter::WARN));
    let defaults = defaults.with_targets(quiet);
    let Some(value) = asked.filter(|value| !value.trim().is_empty()) else {
        return Ok(defaults);
    };
    match value.parse::<Targets>() {
        Ok(asked) => {
            let default = asked.default_level().unwrap_or(LevelFilter::INFO);
            Ok(defaults.with_default(default).with_targets(asked))
        }
        Err(source) => Err(TelemetryError::Filter { value, source }),
    }
}

fn is_json(asked: Option<String>) -> Result<bool, TelemetryError> {
    match asked.as_deref() {
        None | Some("" | "text") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(TelemetryError::Format {
            value: other.to_owned(),
        }),
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let location = panic.location().map(ToString::to_string);
    tracing::error!(panic = message, location, "panic");
}

/// The process's metrics. The `metrics` crate's recorder is global, so all of these are the same.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

/// Several nodes may share a process in tests, and only the first may install the recorder.
static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);

impl Metrics {
    /// Starts recording metrics, once; later calls give the same ones. Names that end in `_seconds` and
    /// `_bytes` are histograms with buckets for those units.
    ///
    /// # Errors
    /// If a recorder that is not ours is installed.
    pub fn install() -> Result<Self, BuildError> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = installed.as_ref() {
            return Ok(metrics.clone());
        }
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES_BUCKETS)?
            .install_recorder()?;
        let metrics = Self { handle };
        *installed = Some(metrics.clone());
        Ok(metrics)
    }

    /// Folds samples into buckets from time to time, so that memory stays bounded without a scraper.
    pub fn start_upkeep(&self, tasks: &TaskSet) {
        let handle = self.handle.clone();
        let stop = tasks.stop_token();
        let upkeep = async move {
            let mut ticks = tokio::time::interval(METRICS_UPKEEP_INTERVAL);
            loop {
                ticks.tick().await;
                handle.run_upkeep();
            }
        };
        tasks.spawn("metrics-upkeep", async move {
            stop.run_until_cancelled_owned(upkeep).await;
        });
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_are_quiet_unless_asked_for() {
        let default = filter(None).unwrap();
        assert!(default.would_enable("cache_node", &Level::INFO));
        assert!(!default.would_enable("hyper", &Level::INFO));
        let asked = filter(Some("warn,hyper=trace".to_owned())).unwrap();
        assert!(asked.would_enable("hyper", &Level::TRACE));
        assert!(!asked.would_enable("cache_node", &Level::INFO));
    }

    #[test]
    fn wrong_filter_names_the_variable_and_the_value() {
        let error = filter(Some("proxy=loud".to_owned())).unwrap_err();
        assert!(error.to_string().contains(r#"KUIK_LOG="proxy=loud""#));
        let error = is_json(Some("xml".to_owned())).unwrap_err();
        assert!(error.to_string().contains(r#"KUIK_LOG_FORMAT="xml""#));
    }

    #[test]
    fn metrics_are_installed_once_and_render_with_buckets() {
        let metrics = Metrics::install().unwrap();
        let same = Metrics::install().unwrap();
        metrics::histogram!("kube_image_keeper_test_seconds").record(0.002);
        let bucket = r#"kube_image_keeper_test_seconds_bucket{le="0.0025"} 1"#;
        assert!(metrics.render().contains(bucket));
        assert!(same.render().contains(bucket));
    }
}
