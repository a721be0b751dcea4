//! The figures as a table, with each aim and whether it was met.

use std::fmt;

use serde::Serialize;

use crate::cold::ColdFigures;
use crate::contender::Role;
use crate::measure::Figures;

/// One aim of the project: a figure, the bound it is held to, and which side of it is good.
struct Aim {
    text: &'static str,
    value: f64,
    bound: f64,
    at_least: bool,
}

/// Everything a run found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) warm: Vec<Figures>,
    pub(crate) cold: Option<ColdFigures>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<16}{:>10}{:>11}{:>11}{:>10}{:>11}{:>10}{:>10}{:>10}",
            "median", "blob GB/s", "CPU s/GiB", "GET/s", "p99 ms", "HEAD/s", "p99 ms", "idle MiB", "after MiB"
        )?;
        for row in &self.warm {
            writeln!(
                f,
                "{:<16}{:>10.2}{:>11.2}{:>11.0}{:>10.2}{:>11.0}{:>10.2}{:>10.1}{:>10.1}",
                row.name,
                row.blob.gigabytes_per_second,
                row.blob.cpu_seconds_per_gibibyte,
                row.get.requests_per_second,
                row.get.p99_milliseconds,
                row.head.requests_per_second,
                row.head.p99_milliseconds,
                row.idle_mebibytes,
                row.mebibytes_after
            )?;
        }
        writeln!(f)?;
        let cold = self.cold.iter().flat_map(cold_aims);
        for aim in aims(&self.warm).into_iter().chain(cold) {
            let met = if aim.at_least {
                aim.value >= aim.bound
            } else {
                aim.value <= aim.bound
            };
            let sign = if aim.at_least { ">=" } else { "<=" };
            let verdict = if met { "met" } else { "MISSED" };
            writeln!(
                f,
                "{:<56}{:>8.2}  (aim {sign} {:.2}: {verdict})",
                aim.text, aim.value, aim.bound
            )?;
        }
        Ok(())
    }
}

fn cold_aims(cold: &ColdFigures) -> [Aim; 3] {
    let at_most = |text, value, bound| Aim {
        text,
        value,
        bound,
        at_least: false,
    };
    [
        at_most(
            "cold: first byte later than the source's own, ms",
            cold.first_byte_added_milliseconds,
            20.0,
        ),
        at_most(
            "cold: GETs at the source from 64 clients",
            f64::from(cold.source_gets),
            1.0,
        ),
        at_most(
            "cold: % fetched twice, fetching node killed midway",
            cold.fetched_twice_percent,
            5.0,
        ),
    ]
}

/// Compares kuik with the best of the other registries in each figure.
fn aims(figures: &[Figures]) -> Vec<Aim> {
    let of = |role| figures.iter().find(move |row| row.role == role);
    let (Some(node), Some(proxy), Some(proxy_tls)) = (of(Role::Node), of(Role::Proxy), of(Role::ProxyTls)) else {
        return Vec::new();
    };
    let rivals = || figures.iter().filter(|row| row.role == Role::Rival);
    let highest = |value: fn(&Figures) -> f64| rivals().map(value).fold(f64::MIN_POSITIVE, f64::max);
    let lowest = |value: fn(&Figures) -> f64| rivals().map(value).fold(f64::MAX, f64::min);
    let speed = |row: &Figures| row.blob.gigabytes_per_second;
    let at_least = |text, value, bound| Aim {
        text,
        value,
        bound,
        at_least: true,
    };
    let at_most = |text, value, bound| Aim {
        text,
        value,
        bound,
        at_least: false,
    };
    vec![
        at_least(
            "node: blob throughput / best registry",
            speed(node) / highest(speed),
            1.5,
        ),
        at_most(
            "node: CPU per GiB / thriftiest registry",
            node.blob.cpu_seconds_per_gibibyte / lowest(|row| row.blob.cpu_seconds_per_gibibyte),
            0.5,
        ),
        at_least(
            "node: manifest GET/s / best registry",
            node.get.requests_per_second / highest(|row| row.get.requests_per_second),
            10.0,
        ),
        at_most(
            "node: manifest GET p99 / best registry",
            node.get.p99_milliseconds / lowest(|row| row.get.p99_milliseconds),
            0.25,
        ),
        at_least(
            "node: manifest HEAD/s / best registry",
            node.head.requests_per_second / highest(|row| row.head.requests_per_second),
            10.0,
        ),
        at_most(
            "node: manifest HEAD p99 / best registry",
            node.head.p99_milliseconds / lowest(|row| row.head.p99_milliseconds),
            0.25,
        ),
        at_least("proxy: blob throughput / node", speed(proxy) / speed(node), 0.8),
        at_least(
            "proxy over TLS: blob throughput / node",
            speed(proxy_tls) / speed(node),
            0.8,
        ),
        at_most("proxy: idle MiB", proxy_tls.idle_mebibytes, 8.0),
        at_most("node: idle MiB", node.idle_mebibytes, 40.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Rate;
    use crate::throughput::Throughput;

    fn row(name: &'static str, role: Role, factor: f64) -> Figures {
        let rate = Rate {
            requests_per_second: 1000.0 * factor,
            p50_milliseconds: 1.0 / factor,
            p99_milliseconds: 2.0 / factor,
        };
        Figures {
            name,
            role,
            blob: Throughput {
                gigabytes_per_second: factor,
                cpu_seconds_per_gibibyte: 1.0 / factor,
            },
            get: rate,
            head: rate,
            idle_mebibytes: 10.0,
            mebibytes_after: 20.0,
        }
    }

    #[test]
    fn ratios_are_taken_against_the_best_rival_in_each_figure() {
        let rows = [
            row("node", Role::Node, 20.0),
            row("proxy", Role::Proxy, 10.0),
            row("tls", Role::ProxyTls, 5.0),
            row("slow", Role::Rival, 1.0),
            row("fast", Role::Rival, 2.0),
            row("limit", Role::Limit, 100.0),
        ];
        let text = Report {
            warm: rows.to_vec(),
            cold: None,
        }
        .to_string();
        assert!(
            text.contains("node: blob throughput / best registry                      10.00  (aim >= 1.50: met)"),
            "{text}"
        );
        for line in [
            "proxy: blob throughput / node                               0.50  (aim >= 0.80: MISSED)",
            "proxy over TLS: blob throughput / node                      0.25  (aim >= 0.80: MISSED)",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn without_kuik_there_is_nothing_to_compare() {
        assert!(aims(&[row("slow", Role::Rival, 1.0)]).is_empty());
    }
}
