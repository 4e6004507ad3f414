//! The page: a report, or two side by side, as one HTML file that needs nothing else.
//!
//! No script and no outside host: the plots are SVG drawn here, their tooltips are the browser's own, light and dark follow
//! the reader's system, so the file can be mailed or kept for years. Every text that comes from a report is escaped.
//!
//! [`plot`] draws, [`document`] frames; both are free of reports and meant for other programs' pages as well.

mod charts;
pub mod html;
pub mod plot;

use std::fmt::Display;

use crate::connection::Failure;
use crate::format;
use crate::report::{Latencies, Report, Setting};
use crate::table;
use html::escape;

const STYLE: &str = include_str!("page/style.css");

/// A whole HTML page with this title (plain text) around this body (HTML).
#[must_use]
pub fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        plot::STYLE,
    )
}

/// The page of one run.
#[must_use]
pub fn run(report: &Report) -> String {
    let setting = &report.setting;
    let title = format!("{} · {}", setting.target, setting.started());
    let body = [
        format!(
            "<header>\n<p class=\"kicker\">Client report</p>\n<h1>{}</h1>\n{}</header>\n",
            escape(&setting.target),
            facts(setting)
        ),
        tiles(report),
        charts::latency_over_time(&[("", report)]).figure(),
        charts::percentiles(&[("", report)]).figure(),
        charts::outcomes_over_time("Outcomes over time", report, &[report]).figure(),
        format!("<div class=\"pair\">\n{}{}</div>\n", latency_table(report), outcome_table(report)),
        READING.to_owned(),
    ];
    document(&title, &body.concat())
}

/// The page of two runs.
#[must_use]
pub fn compare(a: &Report, b: &Report) -> String {
    let title = format!("Two runs compared · A {} · B {}", a.setting.started(), b.setting.started());
    let both = [("A", a), ("B", b)];
    let notes = table::differences(a, b).iter().fold(String::new(), |notes, difference| {
        notes + &format!("<li>The runs differ in {}</li>\n", escape(difference))
    });
    let notes = if notes.is_empty() { notes } else { format!("<ul class=\"notes\">\n{notes}</ul>\n") };
    let head = |name: &str, report: &Report| {
        format!(
            "<section>\n<h2>Run {name}</h2>\n<p class=\"target\">{}</p>\n{}</section>\n",
            escape(&report.setting.target),
            facts(&report.setting)
        )
    };
    let body = [
        "<header>\n<p class=\"kicker\">Client report</p>\n<h1>Two runs compared</h1>\n</header>\n".to_owned(),
        format!("<div class=\"pair\">\n{}{}</div>\n{notes}", head("A", a), head("B", b)),
        charts::percentiles(&both).figure(),
        charts::latency_over_time(&both).figure(),
        charts::outcomes_over_time("Run A: outcomes over time", a, &[a, b]).figure(),
        charts::outcomes_over_time("Run B: outcomes over time", b, &[a, b]).figure(),
        comparison_table(a, b),
        READING.to_owned(),
    ];
    document(&title, &body.concat())
}

/// How to read the page; the same for every run.
const READING: &str = "\
<details>
<summary>How this was measured</summary>
<p>In <b>open loop</b> requests fall due at a constant rate, and a request's latency counts from the moment it was due to the \
end of its answer or its failure. If the server stalls, the requests that had to wait show that stall. In <b>closed loop</b> each \
connection sends its next request when the last has ended, so a slow server is sent fewer requests and its stalls weigh less.</p>
<p>A request <b>succeeded</b> if its answer is complete and its status is 2xx or 3xx. <b>All</b> latencies include failed \
requests, so quick failures can make them look fast: compare them with those of successes. Requests never sent because the \
client’s own queue was full (<code>overload</code>) have no latency. The client never sends a request twice.</p>
<p><b>p99 = 20 ms</b> means that 99 of 100 requests took no longer than 20 ms. Percentiles are within 0.1 %, those of single \
seconds within 1 %; the maximum is exact. Rows and plots over time go by the second in which requests were due.</p>
</details>
";

fn facts(setting: &Setting) -> String {
    let via = setting.via.as_ref().map_or_else(|| "direct".to_owned(), |via| format!("through {via}"));
    format!("<p class=\"facts\">{} · {} · {}</p>\n", escape(&via), escape(&setting.load()), escape(&setting.started()))
}

/// The numbers to see first.
fn tiles(report: &Report) -> String {
    let counts = &report.counts;
    let failed = counts.requests - counts.succeeded;
    let tile = |class: &str, value: &str, unit: &str, name: &str| {
        format!("<div class=\"tile {class}\"><dt>{name}</dt><dd>{value}<small>{unit}</small></dd></div>\n")
    };
    let success = if failed == 0 { "good" } else { "bad" };
    let share = format::share(counts.succeeded, counts.requests);
    let latencies = &report.latency_ms;
    let tiles = [
        tile(success, share.trim_end_matches(" %"), " %", "succeeded"),
        tile("", &format::count(counts.requests), "", "requests"),
        tile("", format::per_second(report.throughput()).trim_end_matches("/s"), " /s", "throughput"),
        tile("", &format::ms(latencies.p50), " ms", "p50 latency"),
        tile("", &format::ms(latencies.p99), " ms", "p99 latency"),
        tile("", &format::ms(latencies.max), " ms", "slowest"),
    ];
    format!("<dl class=\"tiles\">\n{}</dl>\n", tiles.concat())
}

fn latency_table(report: &Report) -> String {
    let rows = Latencies::named(&report.latency_ms).into_iter().zip(report.latency_ok_ms.named());
    let rows = rows.map(|((name, all), (_, ok))| vec![name.to_owned(), format::ms(all), format::ms(ok)]);
    table_of("Latency, ms", &["", "all", "succeeded"], rows)
}

fn outcome_table(report: &Report) -> String {
    let counts = &report.counts;
    let row = |name: &dyn Display, count: u64| {
        vec![name.to_string(), format::count(count), format::share(count, counts.requests)]
    };
    let statuses = counts.statuses.iter().map(|(status, &count)| row(&format_args!("status {status}"), count));
    let errors =
        Failure::ALL.into_iter().filter_map(|failure| Some(row(&failure.name(), *counts.errors.get(&failure)?)));
    let outcomes = table_of("Outcomes", &["", "requests", "share"], statuses.chain(errors));
    if report.attempts_by_proxy.is_empty() {
        return outcomes;
    }
    let attempts =
        report.attempts_by_proxy.iter().map(|(attempts, &count)| row(&format_args!("{attempts} attempts"), count));
    outcomes + &table_of("Attempts, as the proxy tells", &["", "answers", "share"], attempts)
}

fn comparison_table(a: &Report, b: &Report) -> String {
    let rows = table::rows(a, b).into_iter().map(|row| vec![row.name, row.a, row.b, row.change]);
    table_of("All numbers", &["", "A", "B", "B to A"], rows)
}

fn table_of(title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", escape(head))).collect();
    let rows: String = rows
        .map(|row| {
            let (name, cells) = row.split_first().expect("each row has a name");
            let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(name))
        })
        .collect();
    format!(
        "<section>\n<h2>{}</h2>\n<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</section>\n",
        escape(title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn nothing_from_a_report_becomes_markup() {
        let mut report = example();
        report.setting.target = "http://h/?<script>alert(1)</script>&\"'".to_owned();
        for page in [run(&report), compare(&report, &report)] {
            assert!(!page.contains("<script"), "{page}");
            assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;"));
        }
    }

    #[test]
    fn the_page_needs_no_other_host() {
        let page = run(&example());
        for outside in ["src=", "@import", "url(", "<link", "xlink"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_title_names_target_and_date() {
        let page = run(&example());
        assert!(page.contains("<title>http://127.0.0.1:5001/ · Thu, 01 Jan 1970 00:00:00 GMT</title>"));
    }

    #[test]
    fn a_run_without_requests_has_a_page_too() {
        let mut report = example();
        report.counts = crate::report::Counts::default();
        (report.series, report.quantiles) = (Vec::new(), Vec::new());
        for page in [run(&report), compare(&report, &report)] {
            assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        }
    }
}
