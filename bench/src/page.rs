//! The page: goals, a bar for each peer in each scenario, latencies by percentile, and the cost as work grows. One file without scripts or outside
//! hosts, framed and drawn by the client's page module.

use client::page::document;
use client::page::html::escape;
use client::page::plot::{Axis, Content, Plot, Scale, Series, Stroke, Tone};

use crate::goals::{self, Verdict};
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
    let sections: String = scenario::ALL.iter().map(|scenario| section(results, scenario)).collect();
    let body = [
        format!("<style>\n{STYLE}</style>\n"),
        format!(
            "<header>\n<p class=\"kicker\">Outrigger bench</p>\n<h1>What the proxy costs</h1>\n<p class=\"facts\">{} · {} · {} s a load</p>\n</header>\n",
            escape(&results.started),
            escape(&results.machine),
            results.seconds
        ),
        goals_of(&goals::verdicts(results)),
        percentiles(results).map(|plot| plot.figure()).unwrap_or_default(),
        sections,
        versions(results),
    ];
    document(&format!("Outrigger bench · {}", results.started), &body.concat())
}

fn goals_of(verdicts: &[Verdict]) -> String {
    let measured: Vec<_> = verdicts.iter().filter(|verdict| verdict.is_met.is_some()).collect();
    let lines: String = measured
        .iter()
        .map(|verdict| {
            let class = if verdict.is_met == Some(true) { "good" } else { "bad" };
            format!(
                "<li class=\"{class}\"><b>{}</b> {}: <b>{}</b> <small>goal {}</small></li>\n",
                table::mark(verdict),
                escape(&verdict.text),
                escape(&verdict.measured),
                escape(&verdict.wanted)
            )
        })
        .collect();
    let met = measured.iter().filter(|verdict| verdict.is_met == Some(true)).count();
    format!("<section>\n<h2>{met} of {} goals</h2>\n<ul class=\"goals\">\n{lines}</ul>\n</section>\n", measured.len())
}

fn section(results: &Results, scenario: &Scenario) -> String {
    let rows = table::rows(results, scenario);
    let Some((heads, rows)) = rows.split_first() else { return String::new() };
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", escape(head))).collect();
    let lines: String = rows
        .iter()
        .filter_map(|row| {
            let (name, cells) = row.split_first()?;
            let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            Some(format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(name)))
        })
        .collect();
    format!(
        "<section id=\"{}\">\n<h2>{}</h2>\n{}<div class=\"wide-table\"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table></div>\n</section>\n",
        scenario.name,
        escape(scenario.title),
        bars(results, scenario)
    )
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
    let scale = Scale::latency(series.iter().flat_map(|series| &series.points).filter_map(|point| point.1));
    let label = if scale.is_logarithmic() { "latency, ms (logarithmic)" } else { "latency, ms" };
    (!series.is_empty()).then(|| Plot {
        title: "Latency by percentile".to_owned(),
        note: "Open loop, 2 000 requests a second; a request's latency counts from the moment it was due. Medians of rounds.".to_owned(),
        x: Axis { label: "share of requests".to_owned(), scale: Scale::tail(10_000) },
        y: Axis { label: label.to_owned(), scale },
        content: Content::Lines(series),
        events: Vec::new(),
        hints: Vec::new(),
    })
}

fn versions(results: &Results) -> String {
    let rows: String = results
        .versions
        .iter()
        .map(|(peer, version)| {
            format!("<tr><th scope=\"row\">{}</th><td class=\"version\">{}</td></tr>\n", escape(peer), escape(version))
        })
        .collect();
    format!("<section>\n<h2>Who was measured</h2>\n<table>\n<tbody>\n{rows}</tbody>\n</table>\n</section>\n")
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
