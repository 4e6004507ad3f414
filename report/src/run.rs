//! The report of one run: the value behind the table, the JSON file and the page, readable by other programs.
//!
//! The JSON form is a contract with them: `schema` is raised when a reader of the old form would read the new one wrongly;
//! keys may be added without that, and are ignored by old readers. Times are ms unless the key says otherwise.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize};

/// The form of the JSON that this program writes and reads.
pub const SCHEMA: u32 = 1;

/// One run: how it was set up and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was asked for.
    #[serde(flatten)]
    pub setting: Setting,
    /// Seconds from the start to the end of the last request.
    pub elapsed_s: f64,
    /// How many requests, and how they ended.
    #[serde(flatten)]
    pub counts: Counts,
    /// 0 to 1; absent without requests.
    pub success_rate: Option<f64>,
    /// Of all requests that ended, the failed ones too; not of those never sent (`overload`).
    pub latency_ms: Latencies,
    /// Of the successful requests alone.
    pub latency_ok_ms: Latencies,
    /// How many responses said in `outrigger-attempts` that they took so many attempts.
    pub attempts_by_proxy: BTreeMap<u8, u64>,
    /// One row per second of due time, without holes; of a run longer than an hour the last hour.
    pub series: Vec<Second>,
    /// (quantile from 0 to 1, latency in ms), denser at the tail; the last is the maximum.
    pub quantiles: Vec<(f64, f64)>,
}

/// How a run was set up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// See [`SCHEMA`]; any other is refused on reading.
    #[serde(deserialize_with = "known_schema")]
    pub schema: u32,
    /// The URL requested.
    pub target: String,
    /// The proxy in between, if any.
    pub via: Option<String>,
    /// What made requests fall due.
    pub mode: Mode,
    /// Requests per second; only in open loop.
    pub rate: Option<f64>,
    /// The most requests under way at once.
    pub connections: usize,
    /// When the run began, by the wall clock.
    pub started_unix_ms: u64,
}

/// The kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A constant rate, whatever the responses.
    Open,
    /// Each connection sends when its last request has ended.
    Closed,
}

/// How requests ended. Each is in exactly one of `statuses` and `errors`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How many were due, sent or not.
    pub requests: u64,
    /// Complete responses of 2xx or 3xx.
    pub succeeded: u64,
    /// Complete responses by status.
    #[serde(deserialize_with = "by_status")]
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a complete response, by reason.
    pub errors: BTreeMap<Failure, u64>,
}

/// Why a request has no complete response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failure {
    /// No connection could be made: refused, unreachable, or the name is unknown.
    Refused,
    /// The connection was torn down (RST).
    Reset,
    /// The client's timeout ended first, before or within the response.
    Timeout,
    /// The response began, and the connection was closed in good order (FIN) before its end.
    Truncated,
    /// The connection was closed in good order (FIN) before a response.
    Closed,
    /// What came is not HTTP/1.1.
    Protocol,
    /// Never sent: the client's own queue was full.
    Overload,
}

impl Failure {
    /// All of them, in the order in which reports show them.
    pub const ALL: [Self; 7] =
        [Self::Refused, Self::Reset, Self::Timeout, Self::Truncated, Self::Closed, Self::Protocol, Self::Overload];

    /// The word in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Overload => "overload",
        }
    }
}

impl Counts {
    /// 0 to 1; `None` without requests.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    pub fn success_rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.succeeded as f64 / self.requests as f64)
    }
}

/// Latencies in ms; absent where there was no request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the field's standard terms")]
pub struct Latencies {
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
}

impl Latencies {
    /// Name and value of each, in the order in which reports show them.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Option<f64>); 7] {
        [
            ("mean", self.mean),
            ("p50", self.p50),
            ("p90", self.p90),
            ("p95", self.p95),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("max", self.max),
        ]
    }
}

/// The requests that were due in one second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the start.
    pub t_s: u64,
    /// How many, and how they ended.
    #[serde(flatten)]
    pub counts: Counts,
    /// Half of them took no longer. Two significant digits, as `p99_ms`.
    pub p50_ms: Option<f64>,
    /// 99 % of them took no longer.
    pub p99_ms: Option<f64>,
    /// The slowest; exact.
    pub max_ms: Option<f64>,
}

impl Report {
    /// Reads a JSON report.
    ///
    /// # Errors
    /// A sentence naming the file: unreadable, not a report, or of another schema.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_reader(BufReader::new(file)).map_err(|error| format!("{}: no report: {error}", path.display()))
    }

    /// Writes the JSON report.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&self, file: File) -> std::io::Result<()> {
        let mut out = BufWriter::new(file);
        serde_json::to_writer(&mut out, self)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Requests that ended per second of the run; 0 before any time has passed.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
    pub fn throughput(&self) -> f64 {
        if self.elapsed_s > 0.0 { self.counts.requests as f64 / self.elapsed_s } else { 0.0 }
    }
}

impl Setting {
    /// The load in words, such as `open loop, 200/s over 32 connections`.
    #[must_use]
    pub fn load(&self) -> String {
        let pace = match self.rate {
            Some(rate) => format!("open loop, {rate}/s"),
            None => "closed loop".to_owned(),
        };
        let noun = if self.connections == 1 { "connection" } else { "connections" };
        format!("{pace} over {} {noun}", self.connections)
    }

    /// `direct`, or which proxy the requests went through.
    #[must_use]
    pub fn way(&self) -> String {
        self.via.as_ref().map_or_else(|| "direct".to_owned(), |via| format!("through {via}"))
    }

    /// The start as a date in GMT.
    #[must_use]
    pub fn started(&self) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(self.started_unix_ms))
    }
}

/// Spelled out because `flatten` loses serde_json's reading of text keys as numbers.
fn by_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u16, u64>, D::Error> {
    let parse = |(status, count): (String, u64)| match status.parse() {
        Ok(status) => Ok((status, count)),
        Err(_) => Err(serde::de::Error::custom(format!("`{status}` is no status"))),
    };
    BTreeMap::<String, u64>::deserialize(deserializer)?.into_iter().map(parse).collect()
}

fn known_schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let schema = u32::deserialize(deserializer)?;
    let unknown = || serde::de::Error::custom(format!("schema {schema} is unknown, this program reads {SCHEMA}"));
    (schema == SCHEMA).then_some(schema).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{
        "schema": 1, "target": "http://127.0.0.1:5001/", "via": "http://127.0.0.1:4140/", "mode": "closed", "rate": null,
        "connections": 1, "started_unix_ms": 0, "elapsed_s": 0.5, "success_rate": 0.5,
        "requests": 3, "succeeded": 1, "statuses": {"200": 1, "503": 1}, "errors": {"reset": 1},
        "latency_ms": {"mean": 1.5, "p50": 1.0, "p90": null, "p95": null, "p99": null, "p999": null, "max": 4.0},
        "latency_ok_ms": {"mean": null, "p50": null, "p90": null, "p95": null, "p99": null, "p999": null, "max": null},
        "attempts_by_proxy": {"2": 1},
        "series": [{
            "t_s": 0, "requests": 3, "succeeded": 1, "statuses": {"200": 1, "503": 1}, "errors": {"reset": 1},
            "p50_ms": 1.0, "p99_ms": null, "max_ms": 4.0
        }],
        "quantiles": [[0.0, 0.5], [1.0, 4.0]]
    }"#;

    #[test]
    fn the_json_of_the_contract_is_read_and_written_back_with_all_its_keys() {
        let report: Report = serde_json::from_str(JSON).expect("readable");
        assert_eq!((report.counts.statuses[&503], report.counts.errors[&Failure::Reset]), (1, 1));
        assert_eq!(
            (report.setting.mode, report.latency_ms.p50, report.attempts_by_proxy[&2]),
            (Mode::Closed, Some(1.0), 1)
        );
        assert_eq!((report.series[0].max_ms, report.quantiles[1]), (Some(4.0), (1.0, 4.0)));
        let contract: serde_json::Value = serde_json::from_str(JSON).expect("valid JSON");
        assert_eq!(serde_json::to_value(report).expect("serializable"), contract);
    }

    #[test]
    fn another_schema_is_refused_by_name() {
        let json = JSON.replace("\"schema\": 1", "\"schema\": 2");
        let error = serde_json::from_str::<Report>(&json).expect_err("refused").to_string();
        assert!(error.contains("schema 2 is unknown"), "{error}");
    }

    #[test]
    fn every_failure_is_named_in_reports_as_in_json() {
        for failure in Failure::ALL {
            assert_eq!(serde_json::to_value(failure).expect("a string"), failure.name());
        }
    }
}
