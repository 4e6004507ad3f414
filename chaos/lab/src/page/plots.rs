//! The plots of a part, drawn from the client's rows, in steps short enough to see a breaker move.

use std::collections::BTreeMap;
use std::iter;

use report::format;
use report::plot::{Axis, Content, Event, Layer, Plot, Scale, Series, Stroke, Tone};
use report::quantile::quantile;

use crate::experiment::{Cause, Experiment};
use crate::proxy_log;
use crate::results::Part;
use crate::rows::Row;

/// Steps of the time axis: half a second has a hundred requests at 200/s; a probe and its response need it finer.
const STEP_S: f64 = 0.5;
const OUTAGE_STEP_S: f64 = 0.25;
/// As a part of a step: more than the millisecond to which the load's beginning is known, and too little to see.
const STEP_SLACK: f64 = 0.01;
/// So many points make a smooth curve.
const CURVE_POINTS: u32 = 60;

/// A part cut into steps of time.
pub(super) struct View<'a> {
    name: &'a str,
    part: &'a Part,
    rows: &'a [Row],
    step_s: f64,
    steps: Vec<Step>,
}

/// The requests that were due within one step.
#[derive(Default)]
struct Step {
    kinds: BTreeMap<Kind, u32>,
    latencies: Vec<f64>,
}

/// How a request ended, in the order in which the layers lie upon each other: what is good at the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Success,
    Status(u16),
    Refused,
    Reset,
    Timeout,
    OtherError,
}

impl Kind {
    fn of(row: &Row) -> Self {
        match (row.error.as_str(), row.status) {
            ("", Some(200..400)) => Self::Success,
            ("", Some(status)) => Self::Status(status),
            ("refused", _) => Self::Refused,
            ("reset" | "closed", _) => Self::Reset,
            ("timeout", _) => Self::Timeout,
            _ => Self::OtherError,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Success => "success".to_owned(),
            Self::Status(status) => status.to_string(),
            Self::Refused => "refused".to_owned(),
            Self::Reset => "reset or closed".to_owned(),
            Self::Timeout => "gave up waiting".to_owned(),
            Self::OtherError => "other error".to_owned(),
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Success => Tone::Green,
            Self::Status(500) => Tone::Red,
            Self::Status(502) => Tone::Brown,
            Self::Status(503) => Tone::Orange,
            Self::Status(_) => Tone::Yellow,
            Self::Refused => Tone::Purple,
            Self::Reset => Tone::Pink,
            Self::Timeout => Tone::Blue,
            Self::OtherError => Tone::Grey,
        }
    }
}

impl<'a> View<'a> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "steps are few and not negative")]
    pub(super) fn new(name: &'a str, part: &'a Part, rows: &'a [Row]) -> Self {
        let step_s = if part.outage.is_some() { OUTAGE_STEP_S } else { STEP_S };
        let last_due_s = rows.last().map_or(0.0, |row| row.due_s.max(0.0));
        // What is due a fraction of a millisecond after the last full step belongs to it.
        let count = (last_due_s / step_s - STEP_SLACK).ceil().max(1.0) as usize;
        let mut steps: Vec<Step> = iter::repeat_with(Step::default).take(count).collect();
        for row in rows {
            let index = ((row.due_s.max(0.0) / step_s) as usize).min(count - 1);
            *steps[index].kinds.entry(Kind::of(row)).or_default() += 1;
            steps[index].latencies.extend(row.latency_ms);
        }
        Self { name, part, rows, step_s, steps }
    }

    /// How requests ended, on an axis that fits all of `others`.
    pub(super) fn outcomes(&self, others: &[&View]) -> Plot {
        let mut totals: BTreeMap<Kind, u32> = BTreeMap::new();
        for (kind, count) in self.steps.iter().flat_map(|step| &step.kinds) {
            *totals.entry(*kind).or_default() += count;
        }
        let per_second = |count: u32| f64::from(count) / self.step_s;
        let layers = totals.iter().map(|(kind, total)| Layer {
            name: format!("{} {}", kind.name(), format::count(u64::from(*total))),
            tone: kind.tone(),
            values: self.steps.iter().map(|step| per_second(step.kinds.get(kind).copied().unwrap_or(0))).collect(),
        });
        let busiest = others.iter().flat_map(|view| view.steps.iter().map(move |step| step.per_second(view.step_s)));
        Plot {
            title: format!("{}: outcomes", self.name),
            note: "Each request once, by when it was due.".to_owned(),
            x: time_axis(others),
            y: Axis { label: "requests per second".to_owned(), scale: Scale::from_zero(busiest.fold(0.0, f64::max)) },
            content: Content::Bars { from: 0.0, width: self.step_s, layers: layers.collect() },
            events: self.events(),
            hints: self.hints(outcome_hint),
        }
    }

    /// How long requests took, on an axis that fits all of `others`.
    pub(super) fn latency(&self, others: &[&View]) -> Plot {
        let lines = [("slowest", 1.0, Tone::Grey), ("p95", 0.95, Tone::Purple), ("p50", 0.5, Tone::Blue)];
        let series = lines.into_iter().rev().map(|(name, share, tone)| Series {
            name: name.to_owned(),
            tone,
            stroke: Stroke::Solid,
            points: self.points(share),
        });
        let all = others.iter().flat_map(|view| [0.5, 1.0].into_iter().flat_map(|share| view.points(share)));
        Plot {
            title: format!("{}: latency", self.name),
            note: "All requests, failed ones too, by when they were due.".to_owned(),
            x: time_axis(others),
            y: Axis::latency(all.filter_map(|(_, value)| value)),
            content: Content::Lines(series.collect()),
            events: self.events(),
            hints: self.hints(latency_hint),
        }
    }

    fn points(&self, share: f64) -> Vec<(f64, Option<f64>)> {
        let point = |(at, step): (f64, &Step)| (at + self.step_s / 2.0, quantile(step.latencies.clone(), share));
        self.timed().map(point).collect()
    }

    fn hints(&self, text: fn(&Step) -> String) -> Vec<(f64, f64, String)> {
        let hint = |(at, step): (f64, &Step)| (at, at + self.step_s, format!("from {at:.2} s{}", text(step)));
        self.timed().map(hint).collect()
    }

    /// Each step with its beginning.
    fn timed(&self) -> impl Iterator<Item = (f64, &Step)> {
        (0_u32..).map(|n| f64::from(n) * self.step_s).zip(&self.steps)
    }

    /// When the backend went and came, and when a breaker was not closed.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(sidecar) = &self.part.sidecar {
            let moves = &sidecar.breaker.transitions;
            for (state, name, tone) in [("open", "open", Tone::Orange), ("half_open", "probe", Tone::Sky)] {
                for (from, to) in proxy_log::spans(moves, state, self.part.elapsed_s) {
                    let label = if state == "open" { format!("{name} {:.1} s", to - from) } else { String::new() };
                    events.push(Event { from, to: Some(to), label, tone });
                }
            }
        }
        if let Some(outage) = &self.part.outage {
            let mark = |from, label: &str, tone| Event { from, to: None, label: label.to_owned(), tone };
            let hangs = Experiment::named(self.name).is_some_and(|part| part.outage == Some(Cause::Hangs));
            events.push(mark(outage.killed_at_s, if hangs { "hangs" } else { "killed" }, Tone::Red));
            events.push(mark(outage.returned_at_s, "back", Tone::Green));
        }
        events
    }
}

impl Step {
    fn per_second(&self, step_s: f64) -> f64 {
        f64::from(self.kinds.values().sum::<u32>()) / step_s
    }
}

/// Latency by quantile, all views in one plot.
pub(super) fn percentiles(views: &[View]) -> Plot {
    let tones = [Tone::Orange, Tone::Blue];
    let series: Vec<Series> = views
        .iter()
        .enumerate()
        .map(|(index, view)| Series {
            name: format!("{} {}", view.name, view.part.title),
            tone: tones[index % tones.len()],
            stroke: if index == 0 { Stroke::Dashed } else { Stroke::Solid },
            points: curve(view.rows),
        })
        .collect();
    let requests = views.iter().map(|view| view.part.requests).max().unwrap_or_default();
    let note = "How many requests took no longer than this; each nine further to the right is ten times rarer.";
    Plot::percentiles(note, requests, series)
}

/// Quantiles evenly spread over the nines.
fn curve(rows: &[Row]) -> Vec<(f64, Option<f64>)> {
    let latencies: Vec<f64> = rows.iter().filter_map(|row| row.latency_ms).collect();
    let nines = crate::results::number(u64::try_from(rows.len()).unwrap_or(u64::MAX)).max(10.0).log10();
    let share = |point: u32| 1.0 - 10_f64.powf(-nines * f64::from(point) / f64::from(CURVE_POINTS));
    (0..=CURVE_POINTS).map(share).map(|share| (share, quantile(latencies.clone(), share))).collect()
}

fn time_axis(views: &[&View]) -> Axis {
    let ends = views.iter().map(|view| view.timed().last().map_or(1.0, |(at, _)| at + view.step_s));
    Axis::time(0.0, ends.fold(1.0, f64::max))
}

fn outcome_hint(step: &Step) -> String {
    step.kinds.iter().map(|(kind, count)| format!("\n{}: {count}", kind.name())).collect()
}

fn latency_hint(step: &Step) -> String {
    let of = |share: f64| format::ms(quantile(step.latencies.clone(), share));
    format!("\np50 {} ms\np95 {} ms\nslowest {} ms", of(0.5), of(0.95), of(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::part;
    use crate::rows::tests::row_at;

    #[test]
    fn every_row_is_in_the_step_in_which_it_was_due() {
        let (part, rows) = (part("x", 1, None), [row_at(0.1, 1.0, 200), row_at(1.2, 9.0, 503), row_at(1.4, 3.0, 0)]);
        let view = View::new("a", &part, &rows);
        let counts: Vec<u32> = view.steps.iter().map(|step| step.kinds.values().sum()).collect();
        assert_eq!(counts, [1, 0, 2]);
        let late = [row_at(0.1, 1.0, 200), row_at(1.0004, 1.0, 200)];
        assert_eq!(View::new("a", &part, &late).steps.len(), 2, "no step for a fraction of a millisecond");
        assert_eq!(view.points(1.0), [(0.25, Some(1.0)), (0.75, None), (1.25, Some(9.0))]);
        assert_eq!(view.steps[2].kinds, BTreeMap::from([(Kind::Status(503), 1), (Kind::Refused, 1)]));
    }
}
