//! The page: what was done, what it shows and what it cost, for a reader who is new to breakers and retries.
//!
//! `words` writes, `balance` compares, `plots` draws; every number comes from the results, so that the page is true of the run it was made from.

mod balance;
mod plots;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use report::html::escape;
use report::page::{document, header};
use report::table::Table;
use report::verdict;

use crate::results::{Expectation, Part, Results};
use crate::rows::{self, Row};
use crate::table;

const STYLE: &str = include_str!("page/page.css");

/// The rows of each part, by its name.
type AllRows = BTreeMap<String, Vec<Row>>;

/// What is said of a part; the other parts are there to compare with.
type Words = fn(&Part, &Results) -> String;

/// The page of these results; the clients' CSV files are read from `folder`.
///
/// # Errors
/// A sentence that names the file that cannot be read.
pub fn page(results: &Results, folder: &Path) -> Result<String, String> {
    let mut all = AllRows::new();
    for (name, part) in results.in_order() {
        let rows = rows::read(&folder.join(format!("{name}.csv")), part.started_unix_ms)?;
        all.insert(name.to_owned(), rows);
    }
    Ok(draw(results, &all))
}

fn draw(results: &Results, all: &AllRows) -> String {
    let facts = format!("{} · seed {} · all on one machine, over loopback", results.started, results.seed);
    let body = [
        header("Outrigger lab", "What retries and breakers buy, and what they cost", &facts),
        overview(results),
        baseline_and_sidecar(results, all),
        section_of(results, all, "b_storm", words::storm),
        section_of(results, all, "b_tuned", words::tuned),
        section_of(results, all, "b_post", words::post),
        outages(results, all, &[("c_direct", words::outage_straight), ("c", words::outage), ("c_three", words::three)]),
        outages(results, all, &[("c_hang_direct", words::hang_straight), ("c_hang", words::hang)]),
        bought_and_cost(results),
        claims(&results.expectations),
        words::READING.to_owned(),
    ];
    document(&format!("Outrigger lab · {}", results.started), STYLE, &body.concat())
}

fn overview(results: &Results) -> String {
    let parts = table::parts(results).html_with("parts", |name| format!("<a href=\"#{name}\">{name}</a>"));
    let (claims, held) = (&results.expectations, results.expectations.iter().filter(|claim| claim.holds).count());
    let held = format!("<p>{held} of {} <a href=\"#claims\">claims</a> hold in this run.</p>\n", claims.len());
    report::page::section("", "All parts", &(parts + &held))
}

/// Parts a and b, side by side and on the same scales, or whichever of them was run.
fn baseline_and_sidecar(results: &Results, all: &AllRows) -> String {
    let names = ["a", "b"];
    let sides: Vec<_> = names.into_iter().filter_map(|name| Some((name, results.part(name)?))).collect();
    if sides.is_empty() {
        return String::new();
    }
    let words = sides.iter().map(|(name, part)| {
        let text = if *name == "a" { words::baseline(part) } else { words::sidecar(part, results.part("a")) };
        section(name, &part.title, &text)
    });
    let views: Vec<_> = sides.iter().map(|(name, part)| plots::View::new(name, part, &all[*name])).collect();
    let others: Vec<_> = views.iter().collect();
    let outcomes: String = views.iter().map(|view| view.outcomes(&others).figure()).collect();
    let latencies: String = views.iter().map(|view| view.latency(&others).figure()).collect();
    format!(
        "<div class=\"pair\">\n{}</div>\n<div class=\"pair\">\n{outcomes}</div>\n<div class=\"pair\">\n{latencies}</div>\n{}",
        words.collect::<String>(),
        plots::percentiles(&views).figure()
    )
}

/// A part with its words and its two plots side by side.
fn section_of(results: &Results, all: &AllRows, name: &str, words: fn(&Part) -> String) -> String {
    let Some(part) = results.part(name) else { return String::new() };
    let view = plots::View::new(name, part, &all[name]);
    let figures = view.outcomes(&[&view]).figure() + &view.latency(&[&view]).figure();
    format!("{}<div class=\"pair\">\n{figures}</div>\n", section(name, &part.title, &words(part)))
}

/// Parts with the same outage, one above the other, so that their time axes line up.
fn outages(results: &Results, all: &AllRows, stories: &[(&str, Words)]) -> String {
    let parts: Vec<_> = stories.iter().filter_map(|(name, words)| Some((*name, results.part(name)?, words))).collect();
    let views: Vec<_> = parts.iter().map(|(name, part, _)| plots::View::new(name, part, &all[*name])).collect();
    let others: Vec<_> = views.iter().collect();
    let stories = parts.iter().zip(&views).map(|((name, part, words), view)| {
        section(name, &part.title, &words(part, results))
            + &view.outcomes(&others).figure()
            + &view.latency(&others).figure()
    });
    stories.collect()
}

fn bought_and_cost(results: &Results) -> String {
    let lines = balance::bought_and_cost(results);
    let table = Table::new(3, ["", "bought", "cost"]).with(lines.into_iter().map(balance::Balance::cells));
    let heading = "What the patterns bought and cost";
    if table.is_empty() { String::new() } else { report::page::section("", heading, &table.html("words")) }
}

fn claims(claims: &[Expectation]) -> String {
    report::page::section("claims", "Claims", &verdict::list(claims.iter().map(Expectation::verdict)))
}

/// A heading with paragraphs, which are HTML.
fn section(name: &str, title: &str, text: &str) -> String {
    format!(
        "<section id=\"{name}\">\n<p class=\"kicker\">Part {name}</p>\n<h2>{}</h2>\n{text}</section>\n",
        escape(title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;
    use crate::rows::tests::row_at;

    fn all_rows(results: &Results) -> AllRows {
        let rows = vec![row_at(0.1, 3.0, 200), row_at(0.2, 4.0, 500), row_at(1.7, 5.0, 0)];
        results.parts.keys().map(|name| (name.clone(), rows.clone())).collect()
    }

    #[test]
    fn the_page_needs_no_other_host_and_has_no_number_that_is_none() {
        let mut results = example();
        results.expectations = crate::expect::all(&results);
        let page = draw(&results, &all_rows(&results));
        for outside in ["src=", "@import", "url(", "<link", "<script", "NaN", ">inf", "Infinity"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("What the patterns bought and cost"), "{page}");
    }

    #[test]
    fn a_run_of_one_part_or_none_has_a_page() {
        let mut results = example();
        results.parts.remove("a");
        assert!(draw(&results, &all_rows(&results)).contains("Part b"));
        results.parts.clear();
        assert!(draw(&results, &AllRows::new()).contains("All parts"));
    }
}
