//! What was measured: the value behind the table, `results.json` and the page.

use std::collections::BTreeMap;
use std::path::Path;

use report::format;
use report::verdict::Verdict;
use serde::{Deserialize, Serialize};

use crate::outage::Outage;
use crate::programs::BudgetStatus;
use crate::proxy_log::Transition;

/// The form of the JSON; raised when an old reader would read a new file wrongly.
pub const SCHEMA: u32 = 1;

/// One run of the lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// RFC 3339.
    pub started: String,
    /// Of the backend's generator.
    pub seed: u64,
    /// By the experiments' names.
    pub parts: BTreeMap<String, Part>,
    /// What the product claims, held against the parts.
    pub expectations: Vec<Expectation>,
}

/// What one experiment came to. Latencies are of all requests, failed ones too, unless they say otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// A few words for tables and headings.
    pub title: String,
    /// Requests per second.
    pub rate: f64,
    /// From the first request's due time to the end of the last one.
    pub elapsed_s: f64,
    /// When the load began.
    pub started_unix_ms: f64,
    /// What the client sent.
    pub requests: u64,
    /// Complete responses of 2xx or 3xx.
    pub succeeded: u64,
    /// 0 to 1.
    pub success_rate: f64,
    /// Half took no longer.
    pub p50_ms: Option<f64>,
    /// 95 % took no longer.
    pub p95_ms: Option<f64>,
    /// 99 % took no longer.
    pub p99_ms: Option<f64>,
    /// 99 % of the successful ones took no longer.
    pub p99_ok_ms: Option<f64>,
    /// Complete responses, as the client saw them.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a complete response, by the client's word for why.
    pub errors: BTreeMap<String, u64>,
    /// Requests that the backend has read.
    pub backend_received: u64,
    /// `backend_received / requests - 1`.
    pub extra_load: f64,
    /// Attempts after the first; 0 without a proxy.
    pub retries: u64,
    /// Ids that the backend has read more than once.
    pub repeated_ids: u64,
    /// The proxy's counters; `None` if there was no proxy.
    #[serde(flatten)]
    pub sidecar: Option<Sidecar>,
    /// What happened at the kill; `None` if there was none.
    #[serde(flatten)]
    pub outage: Option<Outage>,
}

/// The proxy's own account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Retries that were called for and not made, by what stood in the way.
    pub retries_refused: BTreeMap<String, u64>,
    /// Those the budget stood in the way of.
    pub retries_refused_by_budget: u64,
    /// How often the budget was found exhausted.
    pub budget_exhausted: u64,
    /// Attempts a request may have in all.
    pub max_attempts: u32,
    /// The budget in force.
    pub budget: BudgetStatus,
    /// What the budget lets the backend receive at most.
    pub backend_received_max: f64,
    /// Connections to the backend that were refused.
    pub connects_refused: u64,
    /// The breakers' timeline.
    pub breaker: Breaker,
}

/// What the breakers did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// Every change of state.
    pub transitions: Vec<Transition>,
    /// How long any of them was open.
    pub open_s: f64,
}

/// A claim of the product, held against what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Begins with the part's name.
    pub name: String,
    /// The claim as a sentence.
    pub text: String,
    /// Whether the run confirms it.
    pub holds: bool,
    /// What was measured, with its unit.
    pub measured: String,
    /// What the claim allows, with its unit.
    pub wanted: String,
}

impl Expectation {
    /// As tables and pages show it.
    #[must_use]
    pub fn verdict(&self) -> Verdict<'_> {
        let Self { name, text, holds, measured, wanted } = self;
        Verdict { name, text, measured, wanted, holds: Some(*holds) }
    }
}

impl Results {
    /// Reads `results.json`.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let results: Self =
            serde_json::from_str(&text).map_err(|error| format!("{}: no results: {error}", path.display()))?;
        if results.schema != SCHEMA {
            return Err(format!("{}: schema {}, this program reads {SCHEMA}", path.display(), results.schema));
        }
        Ok(results)
    }

    /// The parts that were run, in the order of the experiments.
    pub fn in_order(&self) -> impl Iterator<Item = (&'static str, &Part)> {
        crate::experiment::ALL.iter().filter_map(|experiment| Some((experiment.name, self.part(experiment.name)?)))
    }

    /// One part, if it was run.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.get(name)
    }
}

impl Part {
    /// Requests that did not succeed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.requests - self.succeeded
    }

    /// The share that succeeded: `99.70 %`.
    #[must_use]
    pub fn success(&self) -> String {
        format::share(self.succeeded, self.requests)
    }

    /// The share that failed: `0.30 %`.
    #[must_use]
    pub fn failure(&self) -> String {
        format::share(self.failed(), self.requests)
    }

    /// How often the backend was asked for each request.
    #[must_use]
    pub fn received_per_request(&self) -> f64 {
        1.0 + self.extra_load
    }

    /// Complete responses of this status.
    #[must_use]
    pub fn responses(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }
}

impl Sidecar {
    /// Retries not made for this reason.
    #[must_use]
    pub fn refused(&self, reason: &str) -> u64 {
        self.retries_refused.get(reason).copied().unwrap_or_default()
    }
}

/// A count as a number to reckon with.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
pub fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A part of 1,000 requests of which so many succeeded, through a sidecar if `retries` is given.
    pub(crate) fn part(title: &str, succeeded: u64, retries: Option<u64>) -> Part {
        let sidecar = retries.map(|_| Sidecar {
            retries_refused: BTreeMap::new(),
            retries_refused_by_budget: 0,
            budget_exhausted: 0,
            max_attempts: 3,
            budget: BudgetStatus { ratio: 0.2, floor_per_second: 10.0, window_seconds: 10.0 },
            backend_received_max: 1_350.0,
            connects_refused: 0,
            breaker: Breaker::default(),
        });
        let received = 1_000 + retries.unwrap_or_default();
        Part {
            title: title.to_owned(),
            rate: 200.0,
            elapsed_s: 5.0,
            started_unix_ms: 0.0,
            requests: 1_000,
            succeeded,
            success_rate: number(succeeded) / 1_000.0,
            p50_ms: Some(3.0),
            p95_ms: Some(50.0),
            p99_ms: Some(200.0),
            p99_ok_ms: Some(200.0),
            statuses: BTreeMap::from([(200, succeeded), (500, 1_000 - succeeded)]),
            errors: BTreeMap::new(),
            backend_received: received,
            extra_load: number(received) / 1_000.0 - 1.0,
            retries: retries.unwrap_or_default(),
            repeated_ids: 0,
            sidecar,
            outage: None,
        }
    }

    /// Results with parts a and b.
    pub(crate) fn example() -> Results {
        let parts = [
            ("a", part("15 % errors, straight to the backend", 850, None)),
            ("b", part("15 % errors, through the sidecar", 997, Some(170))),
        ];
        let parts = parts.map(|(name, part)| (name.to_owned(), part)).into();
        Results { schema: SCHEMA, started: "2026-01-01T00:00:00Z".to_owned(), seed: 1, parts, expectations: Vec::new() }
    }

    #[test]
    fn what_is_written_is_read_back_with_and_without_sidecar_and_outage() {
        let json = serde_json::to_string(&example()).expect("serializable");
        let back: Results = serde_json::from_str(&json).expect("readable");
        assert_eq!(back.parts["a"].sidecar, None);
        assert_eq!(back.parts["b"].sidecar, example().parts["b"].sidecar);
        assert!(back.parts["b"].outage.is_none());
    }
}
