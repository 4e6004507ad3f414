//! The table of outages on a page, beside the one of [`readme`](crate::readme): what clients and breakers saw of each. Pure.

use report::format;
use report::table::Table;

use crate::outage::Outage;
use crate::results::Results;

const HEADS: [&str; 6] = [
    "part",
    "a breaker opens after",
    "responses while open within (p99)",
    "failed requests waited, together",
    "responses after more than 1 s",
    "all well again after",
];

/// Factor by which a time may differ,
const TIME_FACTOR: f64 = 4.0;
/// if either is above this: below lies chance, as when the next probe was due.
const TIME_FROM_MS: f64 = 2_500.0;
/// Share by which a count may differ, and the number that chance makes of few.
const COUNT_SHARE: f64 = 0.25;
const COUNT_SLACK: f64 = 20.0;

/// One row for each outage.
pub(crate) fn table(results: &Results) -> Table {
    Table::new(1, HEADS).with(outages(results).map(|(name, outage)| cells(name, outage)))
}

/// The cells of these rows that the results contradict; with `some`, rows may be of parts that were not run.
pub(crate) fn drift(rows: &[Vec<String>], results: &Results, some: bool) -> Vec<String> {
    let mut drifted = Vec::new();
    for (name, outage) in outages(results) {
        let Some(row) = rows.iter().find(|row| row.first().is_some_and(|cell| cell == name)) else {
            drifted.push(format!("{name}: not in the table of outages"));
            continue;
        };
        for (column, measured) in cells(name, outage).iter().enumerate() {
            let cell = row.get(column).map_or("", String::as_str);
            if !agrees(cell, measured) {
                drifted.push(format!("{name}, {}: the table says {cell:?}, measured {measured:?}", HEADS[column]));
            }
        }
    }
    let is_known = |row: &&Vec<String>| outages(results).any(|(name, _)| row.first().is_some_and(|cell| cell == name));
    let unknown = rows.iter().filter(|row| !some && !is_known(row));
    drifted.extend(unknown.map(|row| format!("{}: in the table of outages, not in the results", row.join(" | "))));
    drifted
}

fn outages(results: &Results) -> impl Iterator<Item = (&'static str, &Outage)> {
    results.in_order().filter_map(|(name, part)| Some((name, part.outage.as_ref()?)))
}

fn cells(name: &str, outage: &Outage) -> [String; 6] {
    [
        name.to_owned(),
        format::with_ms(outage.detected_after_ms),
        format::with_ms(outage.failed_while_open_p99_ms),
        format!("{:.1} s", outage.waited_in_vain_s),
        format::count(outage.slow),
        format::with_ms(outage.recovered_after_ms),
    ]
}

fn agrees(written: &str, measured: &str) -> bool {
    if written == measured {
        return true;
    }
    let parse = |cell: &str| {
        let (number, unit) = cell.split_once(' ').unwrap_or((cell, ""));
        let factor = if unit == "s" { 1_000.0 } else { 1.0 };
        Some((number.replace(',', "").parse::<f64>().ok()? * factor, unit.is_empty()))
    };
    let (Some((written, is_count)), Some((measured, _))) = (parse(written), parse(measured)) else { return false };
    let (low, high) = (written.min(measured), written.max(measured));
    if is_count {
        high - low <= (written * COUNT_SHARE).max(COUNT_SLACK)
    } else {
        high < TIME_FROM_MS || high <= low * TIME_FACTOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::table::parse_markdown;

    use crate::results::Part;
    use crate::results::tests::{example, part};

    fn with_outage() -> Results {
        let outage = Outage { recovered_after_ms: Some(800.0), ..Outage::read(&[], &[], 2.0, 5.0) };
        let mut results = example();
        results.parts.insert("c".to_owned(), Part { outage: Some(outage), ..part("killed", 1_000, Some(2)) });
        results
    }

    #[test]
    fn a_written_table_agrees_with_its_own_results_and_names_what_has_drifted() {
        let results = with_outage();
        let text = table(&results).markdown();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert_eq!(drift(&parse_markdown(&text), &results, false), Vec::<String>::new());
        let edited = parse_markdown(&text.replace("| 0.0 s |", "| 40.0 s |"));
        assert_eq!(drift(&edited, &results, false).len(), 1);
        assert_eq!(drift(&parse_markdown(&text), &example(), false).len(), 1, "a row too many");
        assert_eq!(drift(&parse_markdown(&text), &example(), true).len(), 0, "unless it was not run");
        assert_eq!(drift(&[], &results, true).len(), 1, "a row too few");
    }

    #[test]
    fn each_cell_has_its_band() {
        for (written, measured, expected) in [
            ("800 ms", "2400 ms", true),
            ("800 ms", "3300 ms", false),
            ("5.2 s", "20.0 s", true),
            ("5.2 s", "21.0 s", false),
            ("600", "700", true),
            ("600", "760", false),
            ("0", "20", true),
            ("0", "21", false),
            ("–", "–", true),
            ("–", "80 ms", false),
        ] {
            assert_eq!(agrees(written, measured), expected, "{written} {measured}");
        }
    }
}
