//! The page: goals, a bar for each peer in each scenario, latencies by percentile, and the cost as work grows.

use report::html::escape;
use report::page::{document, header, section};
use report::plot::{Plot, Series, Stroke, Tone};
use report::verdict;

use crate::goals::{self, Goal};
use crate::measure::figure_of;
use crate::peers::Peer;
use crate::results::{Results, Spread};
use crate::scenario::{self, Scenario};
use crate::table;

const STYLE: &str = include_str!("page.css");
/// Of a bar's drawing; it is stretched to the room there is.
const BAR_WIDTH: f64 = 1_000.0;

/// The page of these results.
pub(crate) fn page(results: &Results) -> String {
    let facts = format!("{} · {} · {} s a load", results.started, results.machine, results.seconds);
    let body = [
        header("Outrigger bench", "What the proxy costs", &facts),
        goals_of(&goals::all(results)),
        percentiles(results).map(|plot| plot.figure()).unwrap_or_default(),
        scenario::ALL.iter().map(|scenario| section_of(results, scenario)).collect(),
        section("", "Versions", &table::versions(results).html("versions")),
    ];
    document(&format!("Outrigger bench · {}", results.started), STYLE, &body.concat())
}

fn goals_of(goals: &[Goal]) -> String {
    let measured = || goals.iter().filter(|goal| goal.is_met.is_some());
    let met = measured().filter(|goal| goal.is_met == Some(true)).count();
    section("", &format!("{met} of {} goals", measured().count()), &verdict::list(measured().map(Goal::verdict)))
}

fn section_of(results: &Results, scenario: &Scenario) -> String {
    let table = table::of(results, scenario);
    if table.is_empty() {
        return String::new();
    }
    section(scenario.name, scenario.title, &(bars(results, scenario) + &table.html("")))
}

/// Processor time per request, the user's part and the kernel's, with a whisker from the cheapest round to the dearest.
fn bars(results: &Results, scenario: &Scenario) -> String {
    let of = |case: &str, figure| results.spread(scenario.name, case, figure);
    let cases: Vec<(String, Spread, Spread)> = scenario
        .cases()
        .into_iter()
        .filter_map(|case| Some((case.name.clone(), of(&case.name, "cpu_us")?, of(&case.name, "user_us")?)))
        .collect();
    let most = cases.iter().map(|(_, cpu, _)| cpu.max).fold(f64::MIN_POSITIVE, f64::max);
    if cases.is_empty() {
        return String::new();
    }
    let rows: String = cases
        .iter()
        .map(|(name, cpu, user)| {
            let at = |value: f64| value / most * BAR_WIDTH;
            format!(
                "<li><span>{}</span><svg viewBox=\"0 0 {BAR_WIDTH} 20\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{:.1} µs\">\
                 <rect class=\"bar t-sky\" x=\"0\" y=\"2\" height=\"16\" width=\"{:.1}\"/><rect class=\"bar t-blue\" x=\"0\" y=\"2\" height=\"16\" width=\"{:.1}\"/>\
                 <path class=\"whisker\" d=\"M{:.1} 10H{:.1}\"/></svg><b>{:.1}</b></li>\n",
                escape(name),
                cpu.median,
                at(cpu.median),
                at(user.median),
                at(cpu.min),
                at(cpu.max),
                cpu.median
            )
        })
        .collect();
    format!(
        "<p class=\"key\">CPU µs per request: <i class=\"t-blue\"></i> user <i class=\"t-sky\"></i> kernel, medians; the line goes from the cheapest round to the dearest.</p>\n<ul class=\"bars\">\n{rows}</ul>\n"
    )
}

/// Latency by quantile, a line for each peer.
fn percentiles(results: &Results) -> Option<Plot> {
    let scenario = Scenario::named("latency")?;
    let looks = |peer: Peer| match peer {
        Peer::Direct => (Tone::Grey, Stroke::Dotted),
        Peer::Relay => (Tone::Brown, Stroke::Dotted),
        Peer::Outrigger => (Tone::Blue, Stroke::Solid),
        Peer::Nginx => (Tone::Green, Stroke::Dashed),
        Peer::Haproxy => (Tone::Orange, Stroke::Dashed),
        Peer::Envoy => (Tone::Purple, Stroke::Dashed),
    };
    let shares = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];
    let point = |case: &str, share: f64| {
        Some((share, results.spread("latency", case, figure_of(share)?).map(|spread| spread.median / 1_000.0)))
    };
    let series: Vec<Series> = scenario
        .cases()
        .into_iter()
        .map(|case| {
            let (tone, stroke) = looks(case.peer);
            let points = shares.into_iter().filter_map(|share| point(&case.name, share)).collect();
            Series { name: case.name, tone, stroke, points }
        })
        .filter(|series: &Series| series.points.iter().any(|(_, latency)| latency.is_some()))
        .collect();
    let note =
        "Open loop, 2 000 requests a second; a request's latency counts from the moment it was due. Medians of rounds.";
    (!series.is_empty()).then(|| Plot::percentiles(note, 10_000, series))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn the_page_needs_no_other_host_and_has_no_number_that_is_none() {
        let mut results = example();
        results.versions.insert("<script>".to_owned(), "<b>".to_owned());
        results.add("latency", "outrigger", [("p50_us".to_owned(), 200.0), ("p99_us".to_owned(), 900.0)]);
        let page = page(&results);
        for outside in ["src=", "@import", "url(", "<link", "<script", "NaN", ">inf", "Infinity"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("Latency by percentile") && page.contains("aria-label=\"18.5 µs\""), "{page}");
    }
}
