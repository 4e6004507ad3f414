//! How an outage went: detection, failures and recovery, read from the client's rows and the breakers' transitions. Pure.

use report::quantile::quantile;
use serde::{Deserialize, Serialize};

use crate::proxy_log::{self, Transition};
use crate::rows::Row;

/// A request that took longer kept somebody waiting.
pub const SLOW_MS: f64 = 1_000.0;

/// The numbers of an outage, in seconds since the start of the load where it says `_at_s`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// SIGKILL was sent, or the backend hung from here on.
    pub killed_at_s: f64,
    /// The backend listened or responded again.
    pub returned_at_s: f64,
    /// From then to the first breaker that opened.
    pub detected_after_ms: Option<f64>,
    /// From the return to the end of the first success.
    pub first_success_after_ms: Option<f64>,
    /// From the return to the first request since which all have succeeded.
    pub recovered_after_ms: Option<f64>,
    /// The open time of the last opening.
    pub last_open_ms: Option<f64>,
    /// Requests that got 503 and were due while a breaker was open.
    pub failed_while_open: u64,
    /// 99 % of them took no longer.
    pub failed_while_open_p99_ms: Option<f64>,
    /// The latencies of all failed requests together: how long clients waited for nothing.
    pub waited_in_vain_s: f64,
    /// Requests that took longer than [`SLOW_MS`].
    pub slow: u64,
}

impl Outage {
    /// Reads the story; `rows` are in order of due time.
    #[must_use]
    pub fn read(rows: &[Row], moves: &[Transition], killed_at_s: f64, returned_at_s: f64) -> Self {
        let since = |from_s: f64| move |at_s: f64| (at_s - from_s) * 1_000.0;
        let opened = || moves.iter().filter(|moved| moved.to == "open");
        let rejected = rejected_while_open(rows, moves);
        let returned = rows.iter().filter(|row| row.is_success()).map(Row::ended_s).filter(|at| *at >= returned_at_s);
        let in_vain = rows.iter().filter(|row| !row.is_success()).filter_map(|row| row.latency_ms);
        let slow = rows.iter().filter(|row| row.latency_ms.is_some_and(|ms| ms > SLOW_MS)).count();
        Self {
            killed_at_s,
            returned_at_s,
            detected_after_ms: opened().map(|moved| moved.t_s).find(|at| *at >= killed_at_s).map(since(killed_at_s)),
            first_success_after_ms: returned.min_by(f64::total_cmp).map(since(returned_at_s)),
            recovered_after_ms: lasting_success_s(rows).map(|at| since(returned_at_s)(at).max(0.0)),
            last_open_ms: opened().next_back().and_then(|moved| moved.open_ms),
            failed_while_open: u64::try_from(rejected.len()).unwrap_or(u64::MAX),
            failed_while_open_p99_ms: quantile(rejected, 0.99),
            // Not `sum`, which is -0 of nothing.
            waited_in_vain_s: in_vain.fold(0.0, |sum, ms| sum + ms) / 1_000.0,
            slow: u64::try_from(slow).unwrap_or(u64::MAX),
        }
    }
}

/// The latencies of responses of 503 to requests that were due while a breaker was open. The backend of this experiment sends no 503 itself.
fn rejected_while_open(rows: &[Row], moves: &[Transition]) -> Vec<f64> {
    let open = proxy_log::spans(moves, "open", f64::INFINITY);
    let was_open = |at_s: f64| open.iter().any(|(from, to)| (*from..*to).contains(&at_s));
    let rejected = rows.iter().filter(|row| row.status == Some(503) && was_open(row.due_s));
    rejected.filter_map(|row| row.latency_ms).collect()
}

/// When the first request was due since which all have succeeded; `None` if the last one has not.
fn lasting_success_s(rows: &[Row]) -> Option<f64> {
    let failed = rows.iter().rposition(|row| !row.is_success());
    rows.get(failed.map_or(0, |last| last + 1)).map(|row| row.due_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy_log::tests::transition;
    use crate::rows::tests::row_at;

    /// Killed at 2 s, open from 2.1 s to 3.1 s and again to 5.1 s, back at 4 s, closed at 5.1 s.
    fn story() -> (Vec<Row>, Vec<Transition>) {
        let moves = vec![
            transition(2.1, "endpoint", "closed", "open", Some(1_000.0)),
            transition(3.1, "endpoint", "open", "half_open", None),
            transition(3.1, "endpoint", "half_open", "open", Some(2_000.0)),
            transition(5.1, "endpoint", "open", "half_open", None),
            transition(5.1, "endpoint", "half_open", "closed", None),
        ];
        let rows = vec![
            row_at(1.0, 3.0, 200),
            row_at(2.0, 60.0, 502),
            row_at(2.5, 0.5, 503),
            row_at(4.5, 0.7, 503),
            row_at(5.2, 10.0, 200),
            row_at(6.0, 3.0, 200),
        ];
        (rows, moves)
    }

    fn close_to(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() < 1e-6)
    }

    #[test]
    fn detection_rejection_and_recovery_are_reported() {
        let (rows, moves) = story();
        let outage = Outage::read(&rows, &moves, 2.0, 4.0);
        assert!(close_to(outage.detected_after_ms, 100.0), "{outage:?}");
        assert!(close_to(outage.first_success_after_ms, 1_210.0), "{outage:?}");
        assert!(close_to(outage.recovered_after_ms, 1_200.0), "{outage:?}");
        assert_eq!((outage.failed_while_open, outage.failed_while_open_p99_ms), (2, Some(0.7)));
        assert_eq!(outage.last_open_ms, Some(2_000.0));
    }

    #[test]
    fn waiting_counts_where_it_was_in_vain_or_long() {
        let rows = [row_at(1.0, 1_500.0, 200), row_at(2.0, 2_000.0, 0), row_at(2.1, 500.0, 504), row_at(2.2, 1.0, 200)];
        let outage = Outage::read(&rows, &[], 2.0, 4.0);
        assert!(close_to(Some(outage.waited_in_vain_s), 2.5), "{outage:?}");
        assert_eq!(outage.slow, 2);
    }

    #[test]
    fn a_success_among_failures_is_no_recovery() {
        let (mut rows, moves) = story();
        rows.push(row_at(6.1, 1.0, 0));
        let outage = Outage::read(&rows, &moves, 2.0, 4.0);
        assert_eq!(outage.recovered_after_ms, None);
        assert!(outage.first_success_after_ms.is_some());
    }

    #[test]
    fn without_a_breaker_there_is_nothing_to_detect() {
        let (rows, _) = story();
        let outage = Outage::read(&rows, &[], 2.0, 4.0);
        assert_eq!((outage.detected_after_ms, outage.last_open_ms, outage.failed_while_open), (None, None, 0));
    }
}
