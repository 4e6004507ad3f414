//! Which plots a report has, and what is in them.

use report::format;
use report::plot::{self, Axis, Content, Layer, Plot, Scale, Series, Stroke, Tone};
use report::run::Failure;
use report::run::{Counts, Report, Second};

/// p50 and p99 of each second, for one run or for runs with names.
pub(super) fn latency_over_time(runs: &[(&str, &Report)]) -> Plot {
    type Pick = fn(&Second) -> Option<f64>;
    let picks: [(&str, Pick, [Tone; 2]); 3] = [
        ("p50", |row| row.p50_ms, [Tone::Blue, Tone::Orange]),
        ("p99", |row| row.p99_ms, [Tone::Purple, Tone::Red]),
        ("max", |row| row.max_ms, [Tone::Grey, Tone::Grey]),
    ];
    // Two maxima would hide the percentiles.
    let picks = if runs.len() > 1 { &picks[..2] } else { &picks[..] };
    let mut series = Vec::new();
    for (index, (run, report)) in runs.iter().enumerate() {
        for (what, pick, tones) in picks {
            let points = report.series.iter().map(|row| (middle(row), pick(row))).collect();
            let stroke = if index == 0 { Stroke::Solid } else { Stroke::Dashed };
            let name = format!("{run} {what}").trim_start().to_owned();
            series.push(Series { name, tone: tones[index % 2], stroke, points });
        }
    }
    let hints = match runs {
        [(_, report)] => report.series.iter().map(latency_hint).collect(),
        _ => Vec::new(),
    };
    Plot {
        title: "Latency over time".to_owned(),
        note: "All requests, failed ones too, by the second in which they were due.".to_owned(),
        x: time_axis(runs.iter().map(|(_, report)| *report)),
        y: Axis::latency(plot::values(&series)),
        content: Content::Lines(series),
        events: Vec::new(),
        hints,
    }
}

/// Latency by quantile on an axis that gives each nine the same room.
pub(super) fn percentiles(runs: &[(&str, &Report)]) -> Plot {
    let tones = [Tone::Blue, Tone::Orange];
    let name = |run: &str| format!("{run} all requests").trim_start().to_owned();
    let series: Vec<Series> = runs
        .iter()
        .enumerate()
        .map(|(index, (run, report))| Series {
            name: name(run),
            tone: tones[index % 2],
            stroke: if index == 0 { Stroke::Solid } else { Stroke::Dashed },
            points: report.quantiles.iter().map(|&(quantile, ms)| (quantile, Some(ms))).collect(),
        })
        .collect();
    let requests = runs.iter().map(|(_, report)| report.counts.requests).max().unwrap_or_default();
    let note = "How many requests took no longer than this; each nine further to the right is ten times rarer.";
    Plot::percentiles(note, requests, series)
}

/// How the requests of each second ended, one upon the other; on axes that fit all of `runs`, to be compared with them.
pub(super) fn outcomes_over_time(title: &str, report: &Report, runs: &[&Report]) -> Plot {
    let layers = KINDS.iter().filter_map(|(kind, tone)| {
        let total = kind.count(&report.counts);
        let values = report.series.iter().map(|row| as_number(kind.count(&row.counts))).collect();
        let name = format!("{} {}", kind.name(), format::count(total));
        (total > 0).then_some(Layer { name, tone: *tone, values })
    });
    let scale = Scale::from_zero(as_number(busiest_second(runs)));
    Plot {
        title: title.to_owned(),
        note: "Each request once, by the second in which it was due.".to_owned(),
        x: time_axis(runs.iter().copied()),
        y: Axis { label: "requests per second".to_owned(), scale },
        content: Content::Bars { from: report.series.first().map_or(0.0, start), width: 1.0, layers: layers.collect() },
        events: Vec::new(),
        hints: report.series.iter().map(outcome_hint).collect(),
    }
}

/// The most requests due in one second.
fn busiest_second(runs: &[&Report]) -> u64 {
    runs.iter().flat_map(|report| &report.series).map(|row| row.counts.requests).max().unwrap_or_default()
}

/// A way to end that has a colour of its own.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Complete responses of this hundred.
    Status(u16),
    Failed(Failure),
}

/// From the bottom up: what is good lies at the bottom, so that what is not stands out at the top.
const KINDS: [(Kind, Tone); 12] = [
    (Kind::Status(2), Tone::Green),
    (Kind::Status(3), Tone::Sky),
    (Kind::Status(1), Tone::Grey),
    (Kind::Status(4), Tone::Yellow),
    (Kind::Status(5), Tone::Red),
    (Kind::Failed(Failure::Refused), Tone::Purple),
    (Kind::Failed(Failure::Reset), Tone::Orange),
    (Kind::Failed(Failure::Timeout), Tone::Brown),
    (Kind::Failed(Failure::Truncated), Tone::Pink),
    (Kind::Failed(Failure::Closed), Tone::Blue),
    (Kind::Failed(Failure::Protocol), Tone::Ink),
    (Kind::Failed(Failure::Overload), Tone::Grey),
];

impl Kind {
    fn name(self) -> String {
        match self {
            Self::Status(hundreds) => format!("{hundreds}xx"),
            Self::Failed(failure) => failure.name().to_owned(),
        }
    }

    fn count(self, counts: &Counts) -> u64 {
        match self {
            Self::Status(hundreds) => counts.statuses.range(hundreds * 100..(hundreds + 1) * 100).map(|(_, n)| n).sum(),
            Self::Failed(failure) => counts.errors.get(&failure).copied().unwrap_or_default(),
        }
    }
}

fn time_axis<'a>(runs: impl Iterator<Item = &'a Report> + Clone) -> Axis {
    let from = runs.clone().filter_map(|report| report.series.first()).map(start).fold(f64::INFINITY, f64::min);
    let to = runs.filter_map(|report| report.series.last()).map(|row| start(row) + 1.0).fold(1.0, f64::max);
    Axis::time(if from.is_finite() { from } else { 0.0 }, to)
}

fn latency_hint(row: &Second) -> (f64, f64, String) {
    let (p50, p99, max) = (format::ms(row.p50_ms), format::ms(row.p99_ms), format::ms(row.max_ms));
    (start(row), start(row) + 1.0, format!("second {}\np50 {p50} ms\np99 {p99} ms\nmax {max} ms", row.t_s))
}

fn outcome_hint(row: &Second) -> (f64, f64, String) {
    let ended = KINDS.iter().map(|(kind, _)| (kind.name(), kind.count(&row.counts))).filter(|(_, count)| *count > 0);
    let lines: String = ended.map(|(name, count)| format!("\n{name}: {}", format::count(count))).collect();
    (start(row), start(row) + 1.0, format!("second {}{lines}", row.t_s))
}

fn start(row: &Second) -> f64 {
    as_number(row.t_s)
}

/// A second's value is drawn in its middle: it is of the whole second.
fn middle(row: &Second) -> f64 {
    start(row) + 0.5
}

#[expect(clippy::cast_precision_loss, reason = "a place in a plot needs no more than 53 bits")]
fn as_number(count: u64) -> f64 {
    count as f64
}
