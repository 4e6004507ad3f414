//! Reports as plain text for the terminal: one run, or two side by side.

use std::fmt::{self, Display, Write as _};
use std::iter;

use report::format;
use report::run::Failure;
use report::run::{Counts, Latencies, Report};
use report::table::Table;

/// The text of one run: how it was set up, counts, and latencies in ms.
#[must_use]
pub fn run(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_run(&mut text, report);
    text
}

/// Two runs side by side, with the change from the first to the second.
#[must_use]
pub fn compare(a: &Report, b: &Report) -> String {
    let notes = differences(a, b).into_iter().map(|difference| format!("note: the runs differ in {difference}\n"));
    notes.collect::<String>() + &comparison(a, b).text()
}

fn write_run(out: &mut String, report: &Report) -> fmt::Result {
    let (setting, counts) = (&report.setting, &report.counts);
    writeln!(out, "target      {} ({})", setting.target, setting.way())?;
    writeln!(out, "load        {}, {:.1} s", setting.load(), report.elapsed_s)?;
    let (requests, rate) = (format::count(counts.requests), format::per_second(report.throughput()));
    writeln!(out, "requests    {requests} ({rate})")?;
    let share = format::share(counts.succeeded, counts.requests);
    writeln!(out, "succeeded   {} ({share})", format::count(counts.succeeded))?;
    if !counts.statuses.is_empty() {
        writeln!(out, "responses   {}", pairs(&counts.statuses))?;
    }
    if !counts.errors.is_empty() {
        writeln!(out, "errors      {}", pairs(counts.errors.iter().map(|(failure, count)| (failure.name(), count))))?;
    }
    if !report.attempts_by_proxy.is_empty() {
        writeln!(out, "attempts    {} (as the proxy reports them)", pairs(&report.attempts_by_proxy))?;
    }
    writeln!(out)?;
    let heads = iter::once("latency, ms").chain(Latencies::default().named().map(|(name, _)| name));
    let row = |(name, latencies): (&str, &Latencies)| {
        iter::once(name.to_owned()).chain(latencies.named().map(|(_, value)| format::ms(value))).collect::<Vec<_>>()
    };
    let latencies = [("all", &report.latency_ms), ("succeeded", &report.latency_ok_ms)];
    out.write_str(&Table::new(1, heads).with(latencies.map(row)).text())
}

/// `200: 1,700   503: 12`
fn pairs<'a, K: Display>(counts: impl IntoIterator<Item = (K, &'a u64)>) -> String {
    let parts = counts.into_iter().map(|(key, &count)| format!("{key}: {}", format::count(count)));
    parts.collect::<Vec<_>>().join("   ")
}

/// The lines of a comparison, for text and page alike.
#[must_use]
pub fn comparison(a: &Report, b: &Report) -> Table {
    let row = |name: &str, a: String, b: String, change: String| [name.to_owned(), a, b, change];
    let count = |name: &str, pick: &dyn Fn(&Counts) -> u64| {
        let (a, b) = (pick(&a.counts), pick(&b.counts));
        row(name, format::count(a), format::count(b), String::new())
    };
    let rate = |report: &Report| format::per_second(report.throughput());
    let share = |report: &Report| format::share(report.counts.succeeded, report.counts.requests);
    let points = match (a.success_rate, b.success_rate) {
        (Some(a), Some(b)) => format!("{:+.2} pts", (b - a) * 100.0),
        _ => String::new(),
    };
    let mut rows = vec![
        count("requests", &|counts| counts.requests),
        row("throughput", rate(a), rate(b), factor(Some(a.throughput()), Some(b.throughput()))),
        row("succeeded", share(a), share(b), points),
    ];
    let pairs = [("all", &a.latency_ms, &b.latency_ms), ("succeeded", &a.latency_ok_ms, &b.latency_ok_ms)];
    for (which, a, b) in pairs {
        for ((name, a), (_, b)) in a.named().into_iter().zip(b.named()) {
            rows.push(row(&format!("{name} of {which}, ms"), format::ms(a), format::ms(b), factor(a, b)));
        }
    }
    for failure in Failure::ALL {
        let errors = |counts: &Counts| counts.errors.get(&failure).copied().unwrap_or_default();
        if errors(&a.counts) + errors(&b.counts) > 0 {
            rows.push(count(failure.name(), &errors));
        }
    }
    Table::new(1, ["", "A", "B", "B to A"]).with(rows)
}

/// `× 1.25`; nothing where there is no number to compare with.
fn factor(a: Option<f64>, b: Option<f64>) -> String {
    match (a, b) {
        (Some(a), Some(b)) if a > 0.0 => format!("× {:.2}", b / a),
        _ => String::new(),
    }
}

/// How the two runs were set up differently, which may explain the numbers.
#[must_use]
pub fn differences(a: &Report, b: &Report) -> Vec<String> {
    let (a, b) = (&a.setting, &b.setting);
    let settings =
        [("target", a.target.clone(), b.target.clone()), ("way", a.way(), b.way()), ("load", a.load(), b.load())];
    let differing = settings.into_iter().filter(|(_, a, b)| a != b);
    differing.map(|(what, a, b)| format!("{what}: A {a}, B {b}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use report::run::Second;

    use super::*;

    pub(crate) fn example() -> Report {
        let counts = Counts {
            requests: 3,
            succeeded: 1,
            statuses: BTreeMap::from([(200, 1), (503, 1)]),
            errors: BTreeMap::from([(Failure::Reset, 1)]),
        };
        Report {
            setting: crate::run::tests::setting(),
            elapsed_s: 0.5,
            success_rate: counts.success_rate(),
            latency_ok_ms: Latencies::default(),
            latency_ms: Latencies { mean: Some(1.5), p50: Some(1.0), max: Some(4.0), ..Latencies::default() },
            attempts_by_proxy: BTreeMap::from([(2, 1)]),
            series: vec![Second { t_s: 0, counts: counts.clone(), p50_ms: Some(1.0), p99_ms: None, max_ms: Some(4.0) }],
            quantiles: vec![(0.0, 0.5), (1.0, 4.0)],
            counts,
        }
    }

    #[test]
    fn the_table_of_a_run_shows_what_happened() {
        let expected = "\
target      http://127.0.0.1:5001/ (through http://127.0.0.1:4140/)
load        closed loop over 1 connection, 0.5 s
requests    3 (6.0/s)
succeeded   1 (33.33 %)
responses   200: 1   503: 1
errors      reset: 1
attempts    2: 1 (as the proxy reports them)

latency, ms  mean   p50  p90  p95  p99  p99.9   max
all          1.50  1.00    –    –    –      –  4.00
succeeded       –     –    –    –    –      –     –
";
        assert_eq!(run(&example()), expected);
    }

    #[test]
    fn a_comparison_says_in_what_the_runs_differ() {
        let (a, mut b) = (example(), example());
        assert_eq!(differences(&a, &b), [""; 0]);
        b.setting.via = None;
        assert_eq!(differences(&a, &b), ["way: A through http://127.0.0.1:4140/, B direct"]);
    }

    #[test]
    fn a_comparison_gives_factors_and_percentage_points() {
        let (a, mut b) = (example(), example());
        b.latency_ms.p50 = Some(2.5);
        b.success_rate = Some(1.0);
        let change = |name: &str| {
            let rows = report::table::parse_markdown(&comparison(&a, &b).markdown());
            rows.into_iter().find(|row| row[0] == name).expect(name)[3].clone()
        };
        assert_eq!(change("p50 of all, ms"), "× 2.50");
        assert_eq!(change("p90 of all, ms"), "");
        assert_eq!(change("succeeded"), "+66.67 pts");
    }
}
