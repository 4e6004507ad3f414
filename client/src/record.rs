//! Counting: one [`Sample`] per request goes in, a [`Report`] comes out.
//!
//! Memory is bounded whatever the length of the run: latencies go into HDR histograms (three digits for the whole run, two
//! for each second), and only the last [`SECONDS_MAX`] seconds are kept one by one. Sums and maxima are kept exactly.
//! A request that was never sent because the queue was full is counted but has no latency: a zero would flatter.
//!
//! Pure: no clock, no I/O. The caller holds it under a lock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::connection::Outcome;
use crate::load::Ticket;
use report::run::{Counts, Latencies, Report, Second, Setting};

/// How many seconds are kept one by one, the latest: an hour, some 30 MB at most.
pub const SECONDS_MAX: usize = 3_600;

/// Points of the quantile curve for each factor of ten in rarity (90 %, 99 %, …).
const QUANTILES_PER_DECADE: f64 = 25.0;

/// One request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Which it was and when it was due.
    pub ticket: Ticket,
    /// From due to the end of the response or to the failure; absent if it was never sent for lack of room.
    pub latency: Option<Duration>,
    /// What became of it.
    pub outcome: Outcome,
}

/// All that is counted of one run.
#[derive(Debug)]
pub struct Recorder {
    counts: Counts,
    attempts: BTreeMap<u8, u64>,
    all: Distribution,
    successes: Distribution,
    /// One for each second of due time, without holes.
    seconds: VecDeque<Tally>,
    /// Which second the first of them is.
    first_second: u64,
    /// Since progress was last asked for.
    interval: Tally,
    last_end: Duration,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            attempts: BTreeMap::new(),
            all: Distribution::with_digits(3),
            successes: Distribution::with_digits(3),
            seconds: VecDeque::new(),
            first_second: 0,
            interval: Tally::default(),
            last_end: Duration::ZERO,
        }
    }
}

impl Recorder {
    /// Counts one request.
    pub fn record(&mut self, sample: &Sample) {
        count(&mut self.counts, &sample.outcome);
        if let Some(attempts) = sample.outcome.attempts {
            *self.attempts.entry(attempts).or_default() += 1;
        }
        if let Some(latency) = sample.latency {
            self.all.record(latency);
            if sample.outcome.is_success() {
                self.successes.record(latency);
            }
        }
        self.last_end = self.last_end.max(sample.ticket.due + sample.latency.unwrap_or_default());
        self.interval.add(sample);
        if let Some(second) = self.second(sample.ticket.due.as_secs()) {
            second.add(sample);
        }
    }

    /// The tally of that second, made if it is new; `None` if it is no longer kept.
    fn second(&mut self, second: u64) -> Option<&mut Tally> {
        let mut index = usize::try_from(second.checked_sub(self.first_second)?).ok()?;
        while self.seconds.len() <= index {
            self.seconds.push_back(Tally::default());
            if self.seconds.len() > SECONDS_MAX {
                self.seconds.pop_front();
                self.first_second += 1;
                index -= 1;
            }
        }
        self.seconds.get_mut(index)
    }

    /// What ended since the last call, as the row of second `t_s`.
    pub fn take_interval(&mut self, t_s: u64) -> Second {
        std::mem::take(&mut self.interval).row(t_s)
    }

    /// The report of everything counted so far.
    #[must_use]
    pub fn report(&self, setting: Setting) -> Report {
        let series = (self.first_second..).zip(&self.seconds).map(|(t_s, second)| second.row(t_s)).collect();
        Report {
            setting,
            elapsed_s: round(self.last_end.as_secs_f64()),
            success_rate: self.counts.success_rate(),
            counts: self.counts.clone(),
            latency_ms: self.all.summary(),
            latency_ok_ms: self.successes.summary(),
            attempts_by_proxy: self.attempts.clone(),
            series,
            quantiles: self.all.curve(),
        }
    }
}

/// The requests of one second.
#[derive(Debug)]
struct Tally {
    counts: Counts,
    latency: Distribution,
}

impl Default for Tally {
    fn default() -> Self {
        Self { counts: Counts::default(), latency: Distribution::with_digits(2) }
    }
}

impl Tally {
    fn add(&mut self, sample: &Sample) {
        count(&mut self.counts, &sample.outcome);
        if let Some(latency) = sample.latency {
            self.latency.record(latency);
        }
    }

    fn row(&self, t_s: u64) -> Second {
        Second {
            t_s,
            counts: self.counts.clone(),
            p50_ms: self.latency.quantile_ms(0.5),
            p99_ms: self.latency.quantile_ms(0.99),
            max_ms: self.latency.max_ms(),
        }
    }
}

fn count(counts: &mut Counts, outcome: &Outcome) {
    counts.requests += 1;
    counts.succeeded += u64::from(outcome.is_success());
    if let Some(failure) = outcome.failure {
        *counts.errors.entry(failure).or_default() += 1;
    } else if let Some(status) = outcome.status {
        *counts.statuses.entry(status.as_u16()).or_default() += 1;
    }
}

/// Latencies: their order from a histogram of microseconds, their sum and maximum exactly.
#[derive(Debug)]
struct Distribution {
    histogram: Histogram<u32>,
    sum: Duration,
    max: Duration,
}

impl Distribution {
    fn with_digits(significant: u8) -> Self {
        // It grows with the values it is given; the digits bound both its size and its error.
        let histogram = Histogram::new(significant).expect("hdrhistogram takes 0 to 5 digits");
        Self { histogram, sum: Duration::ZERO, max: Duration::ZERO }
    }

    fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.histogram.record(micros).expect("a histogram that grows by itself takes every u64 on a 64-bit system");
        self.sum = self.sum.saturating_add(latency);
        self.max = self.max.max(latency);
    }

    /// The latency that this share of the requests did not exceed; `None` without requests.
    fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let micros = self.histogram.value_at_quantile(quantile);
        // A bucket is reported by its upper end, which may lie above the largest value in it.
        let latency = Duration::from_micros(micros).min(self.max);
        (!self.histogram.is_empty()).then(|| ms(latency))
    }

    fn max_ms(&self) -> Option<f64> {
        (!self.histogram.is_empty()).then(|| ms(self.max))
    }

    #[expect(clippy::cast_precision_loss, reason = "the mean needs no more than 53 bits of the number of requests")]
    fn mean_ms(&self) -> Option<f64> {
        let requests = self.histogram.len() as f64;
        (requests > 0.0).then(|| round(self.sum.as_secs_f64() * 1_000.0 / requests))
    }

    fn summary(&self) -> Latencies {
        Latencies {
            mean: self.mean_ms(),
            p50: self.quantile_ms(0.5),
            p90: self.quantile_ms(0.9),
            p95: self.quantile_ms(0.95),
            p99: self.quantile_ms(0.99),
            p999: self.quantile_ms(0.999),
            max: self.max_ms(),
        }
    }

    /// Points (quantile, latency in ms), evenly spaced on a logarithmic scale of rarity, as far out as there are requests to
    /// tell: with 1,000 of them nothing is known beyond 99.9 % but the maximum, which is the last point.
    #[expect(clippy::cast_precision_loss, reason = "only compared with rarities down to one in 2^53")]
    fn curve(&self) -> Vec<(f64, f64)> {
        let rarest = 1.0 / self.histogram.len() as f64;
        let rarities = (0..).map(|k| 10_f64.powf(-f64::from(k) / QUANTILES_PER_DECADE));
        let quantiles = rarities.take_while(|&rarity| rarity > rarest).map(|rarity| 1.0 - rarity);
        quantiles.chain([1.0]).filter_map(|quantile| Some((quantile, self.quantile_ms(quantile)?))).collect()
    }
}

fn ms(latency: Duration) -> f64 {
    round(latency.as_secs_f64() * 1_000.0)
}

/// To three decimals: a microsecond where the unit is ms, a millisecond where it is s.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use report::run::Failure;

    fn sample(n: u64, due_ms: u64, latency_ms: u64, status: u16) -> Sample {
        Sample {
            ticket: Ticket { n, due: Duration::from_millis(due_ms) },
            latency: Some(Duration::from_millis(latency_ms)),
            outcome: Outcome { status: StatusCode::from_u16(status).ok(), ..Outcome::default() },
        }
    }

    fn recorded(samples: impl IntoIterator<Item = Sample>) -> Report {
        let mut recorder = Recorder::default();
        samples.into_iter().for_each(|sample| recorder.record(&sample));
        recorder.report(crate::run::tests::setting())
    }

    #[test]
    fn percentiles_are_right_within_the_digits_of_the_histogram() {
        let report = recorded((1..=1_000).map(|ms| sample(ms, 0, ms, 200)));
        let check = |name: &str, found: Option<f64>, expected: f64| {
            let found = found.expect(name);
            assert!((found / expected - 1.0).abs() <= 0.001, "{name}: {found}, expected {expected}");
        };
        let latencies = &report.latency_ms;
        check("mean", latencies.mean, 500.5);
        check("p50", latencies.p50, 500.0);
        check("p90", latencies.p90, 900.0);
        check("p95", latencies.p95, 950.0);
        check("p99", latencies.p99, 990.0);
        check("p999", latencies.p999, 999.0);
        assert_eq!(latencies.max, Some(1_000.0));
    }

    #[test]
    fn a_single_request_is_every_percentile() {
        let report = recorded([sample(0, 0, 7, 200)]);
        assert_eq!((report.latency_ms.p50, report.latency_ms.max), (Some(7.0), Some(7.0)));
        assert_eq!(report.quantiles, [(1.0, 7.0)]);
    }

    #[test]
    fn without_requests_there_are_no_numbers() {
        let report = recorded([]);
        assert_eq!(report.latency_ms, Latencies::default());
        assert_eq!((report.success_rate, report.quantiles.len(), report.series.len()), (None, 0, 0));
    }

    #[test]
    fn the_curve_goes_no_further_out_than_the_requests_can_tell() {
        let report = recorded((0..1_000).map(|n| sample(n, 0, n, 200)));
        let (last, before) =
            (report.quantiles[report.quantiles.len() - 1], report.quantiles[report.quantiles.len() - 2]);
        assert_eq!(last, (1.0, 999.0));
        assert!(before.0 < 0.999 && report.quantiles.len() == 76, "{before:?} of {}", report.quantiles.len());
    }

    #[test]
    fn failed_requests_count_in_all_latencies_and_not_in_those_of_successes() {
        let report = recorded([sample(0, 0, 10, 200), sample(1, 0, 30, 503)]);
        assert_eq!((report.latency_ms.max, report.latency_ok_ms.max), (Some(30.0), Some(10.0)));
        assert_eq!(report.success_rate, Some(0.5));
    }

    #[test]
    fn a_request_that_was_never_sent_is_counted_without_a_latency() {
        let refused = Sample { latency: None, outcome: Outcome::failed(Failure::Overload), ..sample(1, 0, 0, 0) };
        let report = recorded([sample(0, 0, 10, 200), refused]);
        assert_eq!((report.counts.requests, report.counts.errors[&Failure::Overload]), (2, 1));
        assert_eq!(report.latency_ms.mean, Some(10.0));
    }

    #[test]
    fn every_request_is_either_a_status_or_an_error() {
        let truncated = Outcome { status: Some(StatusCode::OK), attempts: None, failure: Some(Failure::Truncated) };
        let report = recorded([sample(0, 0, 1, 200), Sample { outcome: truncated, ..sample(1, 0, 1, 200) }]);
        assert_eq!(report.counts.statuses, BTreeMap::from([(200, 1)]));
        assert_eq!(report.counts.errors, BTreeMap::from([(Failure::Truncated, 1)]));
    }

    #[test]
    fn rows_go_by_due_time_and_an_empty_second_has_a_row() {
        let report = recorded([sample(0, 2_999, 5_000, 200), sample(1, 0, 1, 200)]);
        let rows: Vec<_> = report.series.iter().map(|row| (row.t_s, row.counts.requests, row.max_ms)).collect();
        assert_eq!(rows, [(0, 1, Some(1.0)), (1, 0, None), (2, 1, Some(5_000.0))]);
    }

    #[test]
    fn an_endless_run_keeps_only_the_latest_seconds() {
        let seconds_max = SECONDS_MAX as u64;
        let report = recorded((0..seconds_max + 2).map(|second| sample(second, second * 1_000, 1, 200)));
        assert_eq!((report.series.len(), report.series[0].t_s), (SECONDS_MAX, 2));
        assert_eq!(report.counts.requests, seconds_max + 2);
    }
}
