//! The results as text: one row a part for terminal, README and page, and the claims with a tick or a cross.

use std::fmt::Write as _;

use report::format;
use report::table::Table;

use crate::results::{Part, Results};

/// The columns of a row.
pub const HEADS: [&str; 8] =
    ["part", "what", "success", "p50", "p95", "p99", "retries", "backend received per request"];

/// The same, where room is scarce.
const SHORT_HEADS: [&str; 8] = ["part", "what", "success", "p50 ms", "p95 ms", "p99 ms", "retries", "received"];

/// The cells of one part, in the order of [`HEADS`].
#[must_use]
pub fn cells(name: &str, part: &Part) -> [String; 8] {
    [
        name.to_owned(),
        part.title.clone(),
        format::share(part.succeeded, part.requests),
        format::with_ms(part.p50_ms),
        format::with_ms(part.p95_ms),
        format::with_ms(part.p99_ms),
        part.sidecar.as_ref().map_or_else(|| "–".to_owned(), |_| format::count(part.retries)),
        format!("{:.2}", part.received_per_request()),
    ]
}

/// All parts that were run.
#[must_use]
pub fn parts(results: &Results) -> Table {
    of(HEADS, results)
}

fn of(heads: [&str; 8], results: &Results) -> Table {
    Table::new(2, heads).with(results.in_order().map(|(name, part)| cells(name, part)))
}

/// Everything, for the terminal.
#[must_use]
pub fn text(results: &Results) -> String {
    let mut text = of(SHORT_HEADS, results).text() + "\n";
    for claim in &results.expectations {
        let verdict = claim.verdict();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} {:<19} {}: {} (wanted {})",
            verdict.mark(),
            verdict.name,
            verdict.text,
            verdict.measured,
            verdict.wanted
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn a_row_says_nothing_of_retries_where_nobody_could_make_any() {
        let results = example();
        let row = |name: &str| cells(name, results.part(name).expect(name)).join(" | ");
        assert_eq!(
            row("a"),
            "a | 15 % errors, straight to the backend | 85.00 % | 3.00 ms | 50.0 ms | 200 ms | – | 1.00"
        );
        assert_eq!(
            row("b"),
            "b | 15 % errors, through the sidecar | 99.70 % | 3.00 ms | 50.0 ms | 200 ms | 170 | 1.17"
        );
    }

    #[test]
    fn a_claim_that_fails_has_a_cross() {
        let mut results = example();
        results.expectations = crate::expect::all(&results);
        results.expectations[0].holds = false;
        let text = text(&results);
        assert!(text.contains("✗ a.success ") && text.contains("✓ b.success "), "{text}");
    }
}
