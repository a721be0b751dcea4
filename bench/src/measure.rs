//! The order of a run: idle memory, one verified download each, then rounds that alternate between the contenders.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::contender::{Contender, Field, Role};
use crate::rate::{self, Method, Rate};
use crate::statistics::median;
use crate::throughput::{self, Throughput};

/// How much is measured.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) connections: usize,
}

/// Medians of one contender's rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) blob: Throughput,
    pub(crate) get: Rate,
    pub(crate) head: Rate,
    pub(crate) idle_mebibytes: f64,
    pub(crate) mebibytes_after: f64,
}

#[derive(Default)]
struct Samples {
    blob: Vec<Throughput>,
    get: Vec<Rate>,
    head: Vec<Rate>,
    idle_mebibytes: f64,
}

/// Measures every contender of the field.
pub(crate) fn run(field: &Field, plan: &Plan) -> Result<Vec<Figures>> {
    let mut samples = Vec::new();
    for contender in &field.contenders {
        samples.push(Samples {
            idle_mebibytes: mebibytes(contender)?,
            ..Samples::default()
        });
    }
    for contender in &field.contenders {
        eprintln!("checking every byte of {}", contender.name);
        throughput::verify(contender, &field.image)?;
    }
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        for (contender, samples) in field.contenders.iter().zip(&mut samples) {
            samples.blob.push(throughput::measure(contender, &field.image)?);
        }
        for (contender, samples) in field.contenders.iter().zip(&mut samples) {
            let ask = |method| rate::measure(contender, &field.image, method, plan.connections, plan.duration);
            samples.get.push(ask(Method::Get)?);
            samples.head.push(ask(Method::Head)?);
        }
    }
    field
        .contenders
        .iter()
        .zip(&samples)
        .map(|(contender, samples)| figures(contender, samples))
        .collect()
}

fn figures(contender: &Contender, samples: &Samples) -> Result<Figures> {
    let blob = |value: fn(&Throughput) -> f64| median(&samples.blob.iter().map(value).collect::<Vec<_>>());
    Ok(Figures {
        name: contender.name,
        role: contender.role,
        blob: Throughput {
            gigabytes_per_second: blob(|sample| sample.gigabytes_per_second),
            cpu_seconds_per_gibibyte: blob(|sample| sample.cpu_seconds_per_gibibyte),
        },
        get: median_rate(&samples.get),
        head: median_rate(&samples.head),
        idle_mebibytes: samples.idle_mebibytes,
        mebibytes_after: mebibytes(contender)?,
    })
}

fn median_rate(samples: &[Rate]) -> Rate {
    let of = |value: fn(&Rate) -> f64| median(&samples.iter().map(value).collect::<Vec<_>>());
    Rate {
        requests_per_second: of(|sample| sample.requests_per_second),
        p50_milliseconds: of(|sample| sample.p50_milliseconds),
        p99_milliseconds: of(|sample| sample.p99_milliseconds),
    }
}

fn mebibytes(contender: &Contender) -> Result<f64> {
    let bytes = contender
        .resident_bytes()
        .with_context(|| format!("memory of {}", contender.name))?;
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 bytes")]
    let mebibytes = bytes as f64 / (1024.0 * 1024.0);
    Ok(mebibytes)
}
