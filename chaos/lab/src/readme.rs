//! The table of results in README.md, and that of outages on pages that have one: written from a run, and compared with a later one.
//!
//! Numbers that depend on machine and moment are judged in bands, so that the README is wrong when it misleads and not when it is a
//! millisecond off. Pure: text in; text, or a list of what has drifted, out.

use report::block::{Block, Missing};
use report::table::parse_markdown;

use crate::experiment::Experiment;
use crate::outages;
use crate::results::Results;
use crate::table::{self, HEADS};

/// The table of all parts.
const PARTS: Block = Block("lab");
/// The table of outages, on pages that have one.
const OUTAGES: Block = Block("outages");

/// Points by which a share of successes may differ.
const SUCCESS_POINTS: f64 = 1.5;
/// The same where the only backend was gone for a while: open times are jittered, and when the last probe goes decides over seconds of success.
const OUTAGE_POINTS: f64 = 20.0;
/// Factor by which a latency may differ,
const LATENCY_FACTOR: f64 = 3.0;
/// the 95th percentile by more: one response in twenty is 200 ms late, so that a handful of requests decide whether it is one of them,
const P95_FACTOR: f64 = 30.0;
/// if either is above this: below lie scheduling and the machine.
const LATENCY_FROM_MS: f64 = 5.0;
/// Share by which the number of retries may differ,
const RETRIES_SHARE: f64 = 0.25;
/// and the number that chance makes of few.
const RETRIES_SLACK: f64 = 20.0;
/// Share by which what the backend received may differ.
const RECEIVED_SHARE: f64 = 0.1;
/// Requests per request by which it may differ there: what succeeds has been received.
const OUTAGE_RECEIVED: f64 = OUTAGE_POINTS / 100.0;

/// README with its blocks replaced by these results.
///
/// # Errors
/// There is no block for the parts.
pub fn write(readme: &str, results: &Results) -> Result<String, Missing> {
    let page = PARTS.replace(readme, &table::parts(results).markdown())?;
    Ok(OUTAGES.replace(&page, &outages::table(results).markdown()).unwrap_or(page))
}

/// The cells of the block that these results contradict, a sentence each. With `some` the results may have fewer parts than the block.
///
/// # Errors
/// There is no block for the parts.
pub fn drift(readme: &str, results: &Results, some: bool) -> Result<Vec<String>, Missing> {
    let block = PARTS.read(readme)?;
    let mut drifted = Vec::new();
    let written = parse_markdown(block);
    for (name, part) in results.in_order() {
        let Some(row) = written.iter().find(|row| row.first().is_some_and(|cell| cell == name)) else {
            drifted.push(format!("{name}: not in the table"));
            continue;
        };
        let has_another = Experiment::named(name).is_some_and(|experiment| experiment.backends > 1);
        let is_outage = part.outage.is_some() && !has_another;
        for (column, measured) in table::cells(name, part).iter().enumerate() {
            let cell = row.get(column).map_or("", String::as_str);
            if !agrees(column, cell, measured, is_outage) {
                drifted.push(format!("{name}, {}: the table says {cell:?}, measured {measured:?}", HEADS[column]));
            }
        }
    }
    let is_known = |row: &Vec<String>| row.first().is_some_and(|name| results.part(name).is_some());
    let unknown = written.iter().filter(|row| !some && !is_known(row));
    drifted.extend(unknown.map(|row| format!("{}: in the table, not in the results", row.join(" | "))));
    if let Ok(block) = OUTAGES.read(readme) {
        drifted.extend(outages::drift(&parse_markdown(block), results, some));
    }
    Ok(drifted)
}

/// Whether the written cell may stand beside what was measured.
fn agrees(column: usize, written: &str, measured: &str, is_outage: bool) -> bool {
    if written == measured {
        return true;
    }
    let (Some(written), Some(measured)) = (number(written), number(measured)) else { return false };
    let differs_by = (written - measured).abs();
    match HEADS[column] {
        "success" => differs_by <= if is_outage { OUTAGE_POINTS } else { SUCCESS_POINTS },
        "p50" | "p95" | "p99" => {
            let (low, high) = (written.min(measured), written.max(measured));
            let factor = if HEADS[column] == "p95" { P95_FACTOR } else { LATENCY_FACTOR };
            high < LATENCY_FROM_MS || high <= low * factor
        }
        "retries" => differs_by <= (written * RETRIES_SHARE).max(RETRIES_SLACK),
        "backend received per request" => {
            differs_by <= if is_outage { OUTAGE_RECEIVED } else { written * RECEIVED_SHARE }
        }
        _ => false,
    }
}

/// `99.70 %`, `12.3 ms` or `1,234`, without its unit and its commas.
fn number(cell: &str) -> Option<f64> {
    cell.split(' ').next()?.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outage::Outage;
    use crate::results::Part;
    use crate::results::tests::{example, part};

    const README: &str = "# Title\n\nBefore.\n<!-- lab:begin -->\nold\n<!-- lab:end -->\nAfter.\n";

    #[test]
    fn a_written_table_agrees_with_its_own_results() {
        let written = write(README, &example()).expect("there is a block");
        assert!(written.starts_with("# Title\n\nBefore.\n<!-- lab:begin -->\n| part | what |"), "{written}");
        assert!(written.ends_with("| 170 | 1.17 |\n<!-- lab:end -->\nAfter.\n"), "{written}");
        assert_eq!(drift(&written, &example(), false), Ok(Vec::new()));
        assert_eq!(write(&written, &example()), Ok(written), "writing twice changes nothing");
    }

    #[test]
    fn each_cell_has_its_band() {
        let check = |column: &str, written: &str, measured: &str, expected: bool| {
            let column = HEADS.iter().position(|head| *head == column).expect(column);
            assert_eq!(agrees(column, written, measured, false), expected, "{column}: {written} {measured}");
        };
        check("success", "99.70 %", "98.21 %", true);
        check("success", "99.70 %", "98.19 %", false);
        check("p50", "1.00 ms", "4.99 ms", true);
        check("p50", "1.00 ms", "5.01 ms", false);
        check("p95", "11.4 ms", "207 ms", true);
        check("p95", "11.4 ms", "343 ms", false);
        check("p99", "200 ms", "600 ms", true);
        check("p99", "200 ms", "601 ms", false);
        check("p99", "200 ms", "66.0 ms", false);
        check("retries", "1,000", "751", true);
        check("retries", "1,000", "749", false);
        check("retries", "5", "25", true);
        check("retries", "–", "–", true);
        check("retries", "–", "5", false);
        check("backend received per request", "1.17", "1.06", true);
        check("backend received per request", "1.17", "1.05", false);
        check("what", "something", "something else", false);
    }

    #[test]
    fn an_outage_is_judged_more_widely() {
        assert!(agrees(2, "60.00 %", "79.99 %", true));
        assert!(!agrees(2, "60.00 %", "80.01 %", true));
    }

    #[test]
    fn an_outage_that_others_hide_is_not() {
        let mut results = example();
        let outage = Outage::read(&[], &[], 2.0, 5.0);
        results.parts =
            [("c_three".to_owned(), Part { outage: Some(outage), ..part("three", 1_000, Some(22)) })].into();
        let edited = write(README, &results).expect("there is a block").replace("| 100 % |", "| 90.00 % |");
        assert_eq!(drift(&edited, &results, false).map(|drifted| drifted.len()), Ok(1));
    }

    #[test]
    fn each_drifted_cell_and_each_missing_or_unknown_row_is_named() {
        let written = write(README, &example()).expect("there is a block");
        let edited = written.replace("85.00 %", "90.00 %").replace("| b |", "| z |");
        let drifted = drift(&edited, &example(), false).expect("there is a block");
        assert_eq!(drifted[0], "a, success: the table says \"90.00 %\", measured \"85.00 %\"");
        assert_eq!(drifted[1], "b: not in the table");
        assert!(drifted[2].starts_with("z | 15 % errors") && drifted.len() == 3, "{drifted:?}");
    }

    #[test]
    fn a_readme_without_the_block_is_refused() {
        assert!(write("# Title\n", &example()).is_err());
        assert!(drift("<!-- lab:end --><!-- lab:begin -->", &example(), false).is_err());
    }
}
