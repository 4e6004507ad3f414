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

use crate::connection::Failure;
use crate::load::Load;

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
    /// How many answers said in `outrigger-attempts` that they took so many attempts.
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
    /// A constant rate, whatever the answers.
    Open,
    /// Each connection sends when its last request has ended.
    Closed,
}

/// How requests ended. Each is in exactly one of `statuses` and `errors`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub requests: u64,
    /// Complete answers of 2xx or 3xx.
    pub succeeded: u64,
    /// Complete answers by status.
    #[serde(deserialize_with = "by_status")]
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a complete answer, by reason.
    pub errors: BTreeMap<Failure, u64>,
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
    /// Begins to describe a run of this load.
    #[must_use]
    pub fn new(target: String, load: Load, connections: usize) -> Self {
        let (mode, rate) = match load {
            Load::Open(rate) => (Mode::Open, Some(rate.get())),
            Load::Closed => (Mode::Closed, None),
        };
        Self { schema: SCHEMA, target, via: None, mode, rate, connections, started_unix_ms: 0 }
    }

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

    /// The start as a date in GMT.
    #[must_use]
    pub fn started(&self) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(self.started_unix_ms))
    }
}

#[cfg(test)]
impl Default for Setting {
    fn default() -> Self {
        Self::new("http://127.0.0.1:5001/".to_owned(), Load::Closed, 1)
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
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Report {
        let counts = Counts {
            requests: 3,
            succeeded: 1,
            statuses: BTreeMap::from([(200, 1), (503, 1)]),
            errors: BTreeMap::from([(Failure::Reset, 1)]),
        };
        let latencies = Latencies { mean: Some(1.5), p50: Some(1.0), max: Some(4.0), ..Latencies::default() };
        Report {
            setting: Setting { via: Some("http://127.0.0.1:4140/".to_owned()), ..Setting::default() },
            elapsed_s: 0.5,
            success_rate: counts.success_rate(),
            latency_ok_ms: Latencies::default(),
            latency_ms: latencies,
            attempts_by_proxy: BTreeMap::from([(2, 1)]),
            series: vec![Second { t_s: 0, counts: counts.clone(), p50_ms: Some(1.0), p99_ms: None, max_ms: Some(4.0) }],
            quantiles: vec![(0.0, 0.5), (1.0, 4.0)],
            counts,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let report = example();
        let json = serde_json::to_string(&report).expect("serializable");
        assert_eq!(serde_json::from_str::<Report>(&json).expect("readable"), report);
    }

    #[test]
    fn the_json_has_the_keys_of_the_contract() {
        let json = serde_json::to_value(example()).expect("serializable");
        let check = |pointer: &str, expected: serde_json::Value| {
            assert_eq!(json.pointer(pointer), Some(&expected), "{pointer}");
        };
        check("/schema", 1.into());
        check("/mode", "closed".into());
        check("/rate", serde_json::Value::Null);
        check("/via", "http://127.0.0.1:4140/".into());
        check("/requests", 3.into());
        check("/statuses/503", 1.into());
        check("/errors/reset", 1.into());
        check("/latency_ms/p50", 1.0.into());
        check("/latency_ok_ms/p50", serde_json::Value::Null);
        check("/attempts_by_proxy/2", 1.into());
        check("/series/0/t_s", 0.into());
        check("/series/0/errors/reset", 1.into());
        check("/quantiles/1/1", 4.0.into());
    }

    #[test]
    fn another_schema_is_refused_by_name() {
        let json = serde_json::to_string(&example()).expect("serializable").replace("\"schema\":1", "\"schema\":2");
        let error = serde_json::from_str::<Report>(&json).expect_err("refused").to_string();
        assert!(error.contains("schema 2 is unknown"), "{error}");
    }
}
