//! The results as text: one row a part for terminal, README and page, and the claims with a tick or a cross.

use std::fmt::{self, Write as _};

use client::format;

use crate::expect::Expectation;
use crate::results::{Part, Results};

/// The columns of a row.
pub const HEADS: [&str; 8] =
    ["part", "what", "success", "p50", "p95", "p99", "retries", "backend received per request"];

/// The same, where room is scarce.
const SHORT_HEADS: [&str; 8] = ["part", "what", "success", "p50 ms", "p95 ms", "p99 ms", "retries", "received"];

/// One row.
#[must_use]
pub fn cells(name: &str, part: &Part) -> [String; 8] {
    let ms = |value: Option<f64>| if value.is_some() { format!("{} ms", format::ms(value)) } else { format::ms(value) };
    [
        name.to_owned(),
        part.title.clone(),
        format::share(part.succeeded, part.requests),
        ms(part.p50_ms),
        ms(part.p95_ms),
        ms(part.p99_ms),
        part.sidecar.as_ref().map_or_else(|| "–".to_owned(), |_| format::count(part.retries)),
        format!("{:.2}", part.received_per_request()),
    ]
}

/// Everything, for the terminal.
#[must_use]
pub fn text(results: &Results) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut text, results);
    text
}

fn write_all(out: &mut String, results: &Results) -> fmt::Result {
    let rows: Vec<_> = results.in_order().map(|(name, part)| cells(name, part)).collect();
    let heads = SHORT_HEADS.map(str::to_owned);
    let width = |column: usize| rows.iter().chain([&heads]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    for row in [&heads].into_iter().chain(&rows) {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            if column < 2 { write!(out, "{cell:<width$}  ")? } else { write!(out, "{cell:>width$}  ")? }
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    results.expectations.iter().try_for_each(|claim| writeln!(out, "{}", line(claim)))
}

fn line(claim: &Expectation) -> String {
    let Expectation { name, text, measured, wanted, .. } = claim;
    format!("{} {name:<19} {text}: {measured} (wanted {wanted})", mark(claim))
}

/// A tick or a cross.
#[must_use]
pub fn mark(claim: &Expectation) -> &'static str {
    if claim.holds { "✓" } else { "✗" }
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
