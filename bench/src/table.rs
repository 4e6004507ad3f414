//! The results as tables: for the terminal, for docs/performance.md and for the page.

use report::table::Table;

use crate::goals;
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
/// These columns show minimum and maximum beside their medians.
const SPREAD: &[&str] = &["cpu_us", "per_second", "p50_us", "p99_us", "p999_us"];

/// The table of one scenario; empty if nothing of it was measured.
pub(crate) fn of(results: &Results, scenario: &Scenario) -> Table {
    let cases: Vec<String> = scenario.cases().into_iter().map(|case| case.name).collect();
    let has = |figure: &str| cases.iter().any(|case| !results.rounds(scenario.name, case, figure).is_empty());
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| has(column.0)).collect();
    let first = if scenario.cases().iter().all(|case| case.name == case.peer.name()) { "peer" } else { scenario.name };
    let mut table = Table::new(1, [first].into_iter().chain(columns.iter().map(|column| column.1)));
    for case in &cases {
        let cells: Vec<String> = columns.iter().map(|column| cell(results, scenario.name, case, column)).collect();
        if cells.iter().any(|cell| cell != "–") {
            table.push([case.clone()].into_iter().chain(cells));
        }
    }
    table
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

/// All scenarios that were measured, with their titles.
fn measured(results: &Results) -> impl Iterator<Item = (&'static str, Table)> {
    let tables = scenario::ALL.iter().map(|scenario| (scenario.title, of(results, scenario)));
    tables.filter(|(_, table)| !table.is_empty())
}

fn goals(results: &Results) -> Table {
    let row = |goal: &goals::Goal| {
        [goal.verdict().mark().to_owned(), goal.text.clone(), goal.wanted.clone(), goal.measured.clone()]
    };
    Table::new(4, ["", "figure", "goal", "measured"]).with(goals::all(results).iter().map(row))
}

/// The versions of the peers.
pub(crate) fn versions(results: &Results) -> Table {
    Table::new(2, ["peer", "version"])
        .with(results.versions.iter().map(|(peer, version)| [peer.clone(), version.clone()]))
}

/// Everything, for the terminal.
pub(crate) fn text(results: &Results) -> String {
    let tables = measured(results).map(|(title, table)| format!("{title}\n{}\n", table.text()));
    tables.collect::<String>() + &goals(results).text()
}

/// Everything, for docs/performance.md.
pub(crate) fn markdown(results: &Results) -> String {
    let Results { started, machine, seconds, .. } = results;
    let (goals, versions) = (goals(results).markdown(), versions(results).markdown());
    let head = format!("Run of {started} on {machine}; each load measured for {seconds} s.\n\n{goals}\n{versions}");
    let tables = measured(results).map(|(title, table)| format!("\n**{title}**\n\n{}", table.markdown()));
    head + &tables.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn a_row_has_the_figures_that_were_measured() {
        let text = text(&example());
        assert!(text.contains("peer                  CPU µs  user  system  "), "{text}");
        assert!(text.contains("\noutrigger  18.5 [18.0..19.0]   6.2"), "{text}");
        assert!(!text.contains("envoy  "), "{text}");
        assert!(text.contains("\n✗  CPU per request against the byte relay"), "{text}");
    }
}
