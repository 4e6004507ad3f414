//! Reports as plain text for the terminal: one run, or two side by side.

use std::fmt::{self, Display, Write as _};

use crate::connection::Failure;
use crate::format;
use crate::report::{Counts, Latencies, Report};

/// One run.
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
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_compare(&mut text, a, b);
    text
}

fn write_run(out: &mut String, report: &Report) -> fmt::Result {
    let (setting, counts) = (&report.setting, &report.counts);
    let via = setting.via.as_ref().map_or_else(|| "direct".to_owned(), |via| format!("through {via}"));
    writeln!(out, "target      {} ({via})", setting.target)?;
    writeln!(out, "load        {}, {:.1} s", setting.load(), report.elapsed_s)?;
    let (requests, rate) = (format::count(counts.requests), format::per_second(report.throughput()));
    writeln!(out, "requests    {requests} ({rate})")?;
    let share = format::share(counts.succeeded, counts.requests);
    writeln!(out, "succeeded   {} ({share})", format::count(counts.succeeded))?;
    if !counts.statuses.is_empty() {
        writeln!(out, "answers     {}", pairs(&counts.statuses))?;
    }
    if !counts.errors.is_empty() {
        writeln!(out, "errors      {}", pairs(counts.errors.iter().map(|(failure, count)| (failure.name(), count))))?;
    }
    if !report.attempts_by_proxy.is_empty() {
        writeln!(out, "attempts    {} (as the proxy tells)", pairs(&report.attempts_by_proxy))?;
    }
    writeln!(out)?;
    write!(out, "latency, ms")?;
    Latencies::default().named().iter().try_for_each(|(name, _)| write!(out, "{name:>10}"))?;
    for (name, latencies) in [("all", &report.latency_ms), ("succeeded", &report.latency_ok_ms)] {
        write!(out, "\n{name:<11}")?;
        latencies.named().iter().try_for_each(|&(_, value)| write!(out, "{:>10}", format::ms(value)))?;
    }
    writeln!(out)
}

/// `200: 1,700   503: 12`
fn pairs<'a, K: Display>(counts: impl IntoIterator<Item = (K, &'a u64)>) -> String {
    let parts = counts.into_iter().map(|(key, &count)| format!("{key}: {}", format::count(count)));
    parts.collect::<Vec<_>>().join("   ")
}

fn write_compare(out: &mut String, a: &Report, b: &Report) -> fmt::Result {
    for difference in differences(a, b) {
        writeln!(out, "note: the runs differ in {difference}")?;
    }
    writeln!(out, "{:<22}{:>14}{:>14}{:>12}", "", "A", "B", "B to A")?;
    for row in rows(a, b) {
        writeln!(out, "{:<22}{:>14}{:>14}{:>12}", row.name, row.a, row.b, row.change)?;
    }
    Ok(())
}

/// One line of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What is compared.
    pub name: String,
    /// In the first run.
    pub a: String,
    /// In the second.
    pub b: String,
    /// From the first to the second; empty if there is nothing to say.
    pub change: String,
}

/// The lines of a comparison, for text and page alike.
#[must_use]
pub fn rows(a: &Report, b: &Report) -> Vec<Row> {
    let row = |name: &str, a: String, b: String, change: String| Row { name: name.to_owned(), a, b, change };
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
    rows
}

/// `× 1.25`; nothing where there is no number to compare with.
fn factor(a: Option<f64>, b: Option<f64>) -> String {
    match (a, b) {
        (Some(a), Some(b)) if a > 0.0 => format!("× {:.2}", b / a),
        _ => String::new(),
    }
}

/// What was not the same in the two runs and may explain what they show.
#[must_use]
pub fn differences(a: &Report, b: &Report) -> Vec<String> {
    let direct = || "direct".to_owned();
    let (a, b) = (&a.setting, &b.setting);
    let settings = [
        ("target", a.target.clone(), b.target.clone()),
        ("way", a.via.clone().unwrap_or_else(direct), b.via.clone().unwrap_or_else(direct)),
        ("load", a.load(), b.load()),
    ];
    let differing = settings.into_iter().filter(|(_, a, b)| a != b);
    differing.map(|(what, a, b)| format!("{what}: A {a}, B {b}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn the_table_of_a_run_shows_what_happened() {
        let expected = "\
target      http://127.0.0.1:5001/ (through http://127.0.0.1:4140/)
load        closed loop over 1 connection, 0.5 s
requests    3 (6.0/s)
succeeded   1 (33.33 %)
answers     200: 1   503: 1
errors      reset: 1
attempts    2: 1 (as the proxy tells)

latency, ms      mean       p50       p90       p95       p99     p99.9       max
all              1.50      1.00         –         –         –         –      4.00
succeeded           –         –         –         –         –         –         –
";
        assert_eq!(run(&example()), expected);
    }

    #[test]
    fn a_comparison_says_in_what_the_runs_differ() {
        let (a, mut b) = (example(), example());
        assert_eq!(differences(&a, &b), [""; 0]);
        b.setting.via = None;
        assert_eq!(differences(&a, &b), ["way: A http://127.0.0.1:4140/, B direct"]);
    }

    #[test]
    fn a_comparison_gives_factors_and_percentage_points() {
        let (a, mut b) = (example(), example());
        b.latency_ms.p50 = Some(2.5);
        b.success_rate = Some(1.0);
        let change = |name: &str| {
            let row = rows(&a, &b).into_iter().find(|row| row.name == name);
            row.expect(name).change
        };
        assert_eq!(change("p50 of all, ms"), "× 2.50");
        assert_eq!(change("p90 of all, ms"), "");
        assert_eq!(change("succeeded"), "+66.67 pts");
    }
}
