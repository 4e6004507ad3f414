//! The page: what was done, what is to be seen, what it cost, for a reader who is new to breakers and retries.
//!
//! One file without scripts or outside hosts, framed and drawn by the client's page module. `words` writes, `plots` draws; every number comes
//! from the results, so that the page is true of the run it was made from.

mod plots;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use client::page::document;
use client::page::html::escape;

use crate::expect::Expectation;
use crate::results::{Part, Results};
use crate::rows::{self, Row};
use crate::table;

const STYLE: &str = include_str!("report/report.css");

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
    let body = [
        format!("<style>\n{STYLE}</style>\n"),
        head(results),
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
    document(&format!("Outrigger lab · {}", results.started), &body.concat())
}

fn head(results: &Results) -> String {
    format!(
        "<header>\n<p class=\"kicker\">Outrigger lab</p>\n<h1>What retries and breakers buy, and what they cost</h1>\n\
         <p class=\"facts\">{} · seed {} · all on one machine, over loopback</p>\n</header>\n",
        escape(&results.started),
        results.seed
    )
}

fn overview(results: &Results) -> String {
    let heads: String = table::HEADS.iter().map(|head| format!("<th scope=\"col\">{}</th>", escape(head))).collect();
    let rows: String = results
        .in_order()
        .map(|(name, part)| {
            let [name, cells @ ..] = table::cells(name, part);
            let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            format!("<tr><th scope=\"row\"><a href=\"#{name}\">{name}</a></th>{cells}</tr>\n")
        })
        .collect();
    let held = results.expectations.iter().filter(|claim| claim.holds).count();
    format!(
        "<section>\n<h2>All parts</h2>\n<div class=\"wide-table\"><table class=\"parts\">\n<thead><tr>{heads}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table></div>\n<p>{held} of {} <a href=\"#claims\">claims</a> hold in this run.</p>\n</section>\n",
        results.expectations.len()
    )
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

/// Parts with the same outage, one above the other on the same scales: their stories are told by the time axis.
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
    let lines = words::bought_and_cost(results);
    if lines.is_empty() {
        return String::new();
    }
    let rows: String = lines
        .iter()
        .map(|line| {
            let words::Balance { pattern, bought, cost } = line;
            format!("<tr><th scope=\"row\">{pattern}</th><td>{bought}</td><td>{cost}</td></tr>\n")
        })
        .collect();
    format!(
        "<section>\n<h2>What the patterns bought and cost</h2>\n<table class=\"words\">\n<thead><tr><th></th><th scope=\"col\">bought</th>\
         <th scope=\"col\">cost</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</section>\n"
    )
}

fn claims(claims: &[Expectation]) -> String {
    let lines: String = claims
        .iter()
        .map(|claim| {
            let class = if claim.holds { "good" } else { "bad" };
            format!(
                "<li class=\"{class}\"><b>{}</b> <code>{}</code> {}: <b>{}</b> <small>wanted {}</small></li>\n",
                table::mark(claim),
                escape(&claim.name),
                escape(&claim.text),
                escape(&claim.measured),
                escape(&claim.wanted)
            )
        })
        .collect();
    format!("<section id=\"claims\">\n<h2>Claims</h2>\n<ul class=\"claims\">\n{lines}</ul>\n</section>\n")
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
