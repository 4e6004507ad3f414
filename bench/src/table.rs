//! The results as rows: for the terminal, for docs/performance.md and for the page.

use std::fmt::Write as _;

use crate::goals::{self, Verdict};
use crate::results::{Results, Spread};
use crate::scenario::{self, Scenario};

/// A figure, its head, and its decimals.
type Column = (&'static str, &'static str, usize);

/// Those that a case has are shown, in this order.
const COLUMNS: &[Column] = &[
    ("cpu_us", "CPU µs", 1),
    ("user_us", "user", 1),
    ("system_us", "system", 1),
    ("per_second", "requests/s", 0),
    ("success", "success %", 2),
    ("busy", "load %", 0),
    ("p50_us", "p50 µs", 0),
    ("p99_us", "p99 µs", 0),
    ("p999_us", "p99.9 µs", 0),
    ("idle_mib", "idle MiB", 1),
    ("open_mib", "open MiB", 1),
    ("after_mib", "after MiB", 1),
    ("start_ms", "start ms", 1),
];
/// These columns tell what lies around their medians.
const SPREAD: &[&str] = &["cpu_us", "per_second", "p50_us", "p99_us", "p999_us"];

/// The rows of one scenario, heads first.
pub(crate) fn rows(results: &Results, scenario: &Scenario) -> Vec<Vec<String>> {
    let cases: Vec<String> = scenario.cases().into_iter().map(|case| case.name).collect();
    let has = |figure: &str| cases.iter().any(|case| !results.rounds(scenario.name, case, figure).is_empty());
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| has(column.0)).collect();
    if columns.is_empty() {
        return Vec::new();
    }
    let first = if scenario.cases().iter().all(|case| case.name == case.peer.name()) { "peer" } else { scenario.name };
    let heads = [first].into_iter().chain(columns.iter().map(|column| column.1)).map(str::to_owned).collect();
    let mut rows = vec![heads];
    for case in &cases {
        let cells: Vec<String> = columns.iter().map(|column| cell(results, scenario.name, case, column)).collect();
        if cells.iter().any(|cell| cell != "–") {
            rows.push([case.clone()].into_iter().chain(cells).collect());
        }
    }
    rows
}

fn cell(results: &Results, scenario: &str, case: &str, (figure, _, decimals): &Column) -> String {
    let scale = if matches!(*figure, "success" | "busy") { 100.0 } else { 1.0 };
    let Some(Spread { median, min, max }) = results.spread(scenario, case, figure) else { return "–".to_owned() };
    let write = |value: f64| format!("{:.decimals$}", value * scale);
    if SPREAD.contains(figure) && min < max {
        format!("{} [{}..{}]", write(median), write(min), write(max))
    } else {
        write(median)
    }
}

/// Everything, for the terminal.
pub(crate) fn text(results: &Results) -> String {
    let mut text = String::new();
    for scenario in scenario::ALL {
        let rows = rows(results, scenario);
        if !rows.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}\n{}", scenario.title, aligned(&rows));
        }
    }
    let goals: Vec<Vec<String>> = goals::verdicts(results).iter().map(|verdict| goal(verdict).into()).collect();
    text + &aligned(&goals)
}

fn goal(verdict: &Verdict) -> [String; 4] {
    [mark(verdict).to_owned(), verdict.text.clone(), verdict.wanted.clone(), verdict.measured.clone()]
}

/// A tick, a cross, or nothing for what was not measured.
pub(crate) fn mark(verdict: &Verdict) -> &'static str {
    match verdict.is_met {
        Some(true) => "✓",
        Some(false) => "✗",
        None => "·",
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Everything, for docs/performance.md.
pub(crate) fn markdown(results: &Results) -> String {
    let goals =
        goals::verdicts(results).iter().map(goal).fold(String::new(), |text, [mark, goal, wanted, measured]| {
            text + &format!("| {mark} | {goal} | {wanted} | {measured} |\n")
        });
    let peers = results
        .versions
        .iter()
        .fold(String::new(), |text, (peer, version)| text + &format!("| {peer} | {version} |\n"));
    let mut text = format!(
        "Run of {} on {}; each load measured for {} s.\n\n| | figure | goal | measured |\n|---|---|---|---|\n{goals}\n| peer | version |\n|---|---|\n{peers}",
        results.started, results.machine, results.seconds
    );
    for scenario in scenario::ALL {
        let rows = rows(results, scenario);
        let Some((heads, rows)) = rows.split_first() else { continue };
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = "|---".to_owned() + &"|--:".repeat(heads.len() - 1) + "|\n";
        let rows: String = rows.iter().map(|row| line(row)).collect();
        let _ = write!(text, "\n**{}**\n\n{}{rule}{rows}", scenario.title, line(heads));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn a_row_has_the_figures_that_were_measured() {
        let text = text(&example());
        assert!(text.contains("peer       CPU µs             user  system  requests/s"), "{text}");
        assert!(text.contains("\noutrigger  18.5 [18.0..19.0]  6.2"), "{text}");
        assert!(!text.contains("envoy  "), "{text}");
        assert!(text.contains("\n✗  CPU per request against the byte relay"), "{text}");
    }
}
