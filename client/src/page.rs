//! The page: a report, or two side by side, as one HTML file that needs nothing else. Every text that comes from a report is escaped.

mod charts;

use std::fmt::Display;

use report::format;
use report::html::escape;
use report::page::{document, header, section};
use report::run::{Failure, Latencies, Report, Setting};
use report::table::Table;

use crate::table;

const KICKER: &str = "Client report";

/// The page of one run.
#[must_use]
pub fn run(report: &Report) -> String {
    let setting = &report.setting;
    let title = format!("{} · {}", setting.target, setting.started());
    let body = [
        header(KICKER, &setting.target, &facts(setting)),
        tiles(report),
        charts::latency_over_time(&[("", report)]).figure(),
        charts::percentiles(&[("", report)]).figure(),
        charts::outcomes_over_time("Outcomes over time", report, &[report]).figure(),
        format!("<div class=\"pair\">\n{}{}</div>\n", latency_table(report), outcome_table(report)),
        READING.to_owned(),
    ];
    document(&title, "", &body.concat())
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
    let head = |name: &str, Report { setting, .. }: &Report| {
        let (target, facts) = (escape(&setting.target), facts(setting));
        let body = format!("<p class=\"target\">{target}</p>\n<p class=\"facts\">{}</p>\n", escape(&facts));
        section("", &format!("Run {name}"), &body)
    };
    let body = [
        header(KICKER, "Two runs compared", ""),
        format!("<div class=\"pair\">\n{}{}</div>\n{notes}", head("A", a), head("B", b)),
        charts::percentiles(&both).figure(),
        charts::latency_over_time(&both).figure(),
        charts::outcomes_over_time("Run A: outcomes over time", a, &[a, b]).figure(),
        charts::outcomes_over_time("Run B: outcomes over time", b, &[a, b]).figure(),
        section("", "All numbers", &table::comparison(a, b).html("")),
        READING.to_owned(),
    ];
    document(&title, "", &body.concat())
}

/// How to read the page; the same for every run.
const READING: &str = "\
<details>
<summary>How this was measured</summary>
<p>In <b>open loop</b> requests fall due at a constant rate, and a request's latency counts from the moment it was due to the \
end of its response or its failure. If the server stalls, the requests that had to wait show that stall. In <b>closed loop</b> each \
connection sends its next request when the last has ended, so a slow server is sent fewer requests and its stalls weigh less.</p>
<p>A request <b>succeeded</b> if its response is complete and its status is 2xx or 3xx. <b>All</b> latencies include failed \
requests, so quick failures can make them look fast: compare them with those of successes. Requests never sent because the \
client’s own queue was full (<code>overload</code>) have no latency. The client never sends a request twice.</p>
<p><b>p99 = 20 ms</b> means that 99 of 100 requests took no longer than 20 ms. Percentiles are within 0.1 %, those of single \
seconds within 1 %; the maximum is exact. Rows and plots over time go by the second in which requests were due.</p>
</details>
";

fn facts(setting: &Setting) -> String {
    format!("{} · {} · {}", setting.way(), setting.load(), setting.started())
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
    let rows = rows.map(|((name, all), (_, ok))| [name.to_owned(), format::ms(all), format::ms(ok)]);
    section("", "Latency, ms", &Table::new(1, ["", "all", "succeeded"]).with(rows).html(""))
}

fn outcome_table(report: &Report) -> String {
    let counts = &report.counts;
    let row = |name: &dyn Display, count: u64| {
        [name.to_string(), format::count(count), format::share(count, counts.requests)]
    };
    let statuses = counts.statuses.iter().map(|(status, &count)| row(&format_args!("status {status}"), count));
    let errors =
        Failure::ALL.into_iter().filter_map(|failure| Some(row(&failure.name(), *counts.errors.get(&failure)?)));
    let outcomes = Table::new(1, ["", "requests", "share"]).with(statuses.chain(errors));
    let attempts =
        report.attempts_by_proxy.iter().map(|(attempts, &count)| row(&format_args!("{attempts} attempts"), count));
    let attempts = Table::new(1, ["", "responses", "share"]).with(attempts);
    let outcomes = section("", "Outcomes", &outcomes.html(""));
    if attempts.is_empty() {
        return outcomes;
    }
    outcomes + &section("", "Attempts, as the proxy reports them", &attempts.html(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::example;

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
        report.counts = report::run::Counts::default();
        (report.series, report.quantiles) = (Vec::new(), Vec::new());
        for page in [run(&report), compare(&report, &report)] {
            assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        }
    }
}
