//! A plot's SVG at one size. All lengths are in the drawing's own units, which the style sheet shows as about one pixel each.

use std::fmt::{self, Write as _};

use super::{Content, Event, Layer, Plot, Series};
use crate::html::escape;

/// For desktops.
pub(super) const WIDE: Size = Size { class: "wide", width: 960.0, height: 300.0, x_ticks: 11, y_ticks: 5 };

/// For phones.
pub(super) const NARROW: Size = Size { class: "narrow", width: 330.0, height: 250.0, x_ticks: 5, y_ticks: 5 };

/// Room for the labels of the y axis.
const LEFT: f64 = 52.0;
/// Room for half of the last label of the x axis.
const RIGHT: f64 = 22.0;
/// Room for the name of the y axis, which stands above it to be read without turning one's head.
const TOP: f64 = 26.0;
/// Room for the labels and the name of the x axis.
const BOTTOM: f64 = 42.0;
/// One row of event labels.
const EVENT_ROW: f64 = 15.0;
/// Event labels that would need a row beyond these are left to their tooltips.
const EVENT_ROWS_MAX: usize = 3;
/// About the width of a letter of the event labels.
const LETTER: f64 = 6.4;
/// Bars narrower than this touch each other: a gap would be most of them.
const GAP_FROM_WIDTH: f64 = 4.0;
/// More tooltips than this would be narrower than a pointer can hit, and make the file heavy.
const HINTS_MAX: usize = 600;

/// A drawing's size and how many ticks have room in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    class: &'static str,
    width: f64,
    height: f64,
    x_ticks: usize,
    y_ticks: usize,
}

/// The SVG of this plot at this size.
pub(super) fn svg(plot: &Plot, size: Size) -> String {
    let labels = place_labels(plot, size);
    let rows = labels.iter().flatten().map(|label| label.row + 1).max().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "at most EVENT_ROWS_MAX")]
    let top = TOP + rows as f64 * EVENT_ROW;
    let canvas = Canvas { plot, size, top, out: String::new() };
    // Writing to a String cannot fail.
    canvas.draw(&labels).unwrap_or_default()
}

/// Where an event's label stands.
#[derive(Debug, Clone, Copy)]
struct Label {
    row: usize,
    x: f64,
}

/// A place for each label in the first row where it touches no other; `None` if there is none.
fn place_labels(plot: &Plot, size: Size) -> Vec<Option<Label>> {
    let mut row_ends = [f64::MIN; EVENT_ROWS_MAX];
    let mut order: Vec<usize> = (0..plot.events.len()).collect();
    order.sort_by(|&a, &b| plot.events[a].from.total_cmp(&plot.events[b].from));
    let mut labels = vec![None; plot.events.len()];
    for index in order {
        let event = &plot.events[index];
        #[expect(clippy::cast_precision_loss, reason = "a label is a few words")]
        let width = event.label.chars().count() as f64 * LETTER;
        let right = size.width - RIGHT;
        let x = (LEFT + plot.x.scale.place(event.from) * (right - LEFT)).min(right - width).max(LEFT);
        let fits = width > 0.0 && x + width <= size.width;
        if let Some(row) = row_ends.iter().position(|end| fits && *end < x) {
            row_ends[row] = x + width + LETTER;
            labels[index] = Some(Label { row, x });
        }
    }
    labels
}

struct Canvas<'a> {
    plot: &'a Plot,
    size: Size,
    /// Where the frame begins, below the name of the y axis and the labels of the events.
    top: f64,
    out: String,
}

impl Canvas<'_> {
    fn draw(mut self, labels: &[Option<Label>]) -> Result<String, fmt::Error> {
        let Size { class, width, height, .. } = self.size;
        let height = height + self.top - TOP;
        let (title, x, y) = (escape(&self.plot.title), escape(&self.plot.x.label), escape(&self.plot.y.label));
        writeln!(
            self.out,
            "<svg class=\"frame {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}: {y}, by {x}\">"
        )?;
        self.axes()?;
        self.plot.events.iter().try_for_each(|event| self.band(event))?;
        match &self.plot.content {
            // The last is drawn first, so that the first is in front.
            Content::Lines(series) => series.iter().rev().try_for_each(|series| self.line(series))?,
            Content::Bars { from, width, layers } => self.bars(*from, *width, layers)?,
        }
        self.plot.events.iter().zip(labels).try_for_each(|(event, label)| self.mark(event, *label))?;
        self.hints()?;
        writeln!(self.out, "</svg>")?;
        Ok(self.out)
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.plot.x.scale.place(value) * (self.size.width - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom() - self.plot.y.scale.place(value) * (self.bottom() - self.top)
    }

    fn bottom(&self) -> f64 {
        self.top + self.size.height - TOP - BOTTOM
    }

    fn axes(&mut self) -> fmt::Result {
        let (right, bottom, top) = (self.size.width - RIGHT, self.bottom(), self.top);
        for (value, label) in self.plot.y.scale.ticks(self.size.y_ticks) {
            let y = self.y(value);
            writeln!(self.out, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>")?;
            writeln!(self.out, "<text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>", LEFT - 7.0, y + 4.0)?;
        }
        for (value, label) in self.plot.x.scale.ticks(self.size.x_ticks) {
            let x = self.x(value);
            writeln!(self.out, "<path class=\"axis\" d=\"M{x:.1} {bottom:.1}v5\"/>")?;
            writeln!(self.out, "<text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>", bottom + 18.0)?;
        }
        writeln!(self.out, "<path class=\"axis\" d=\"M{LEFT} {top:.1}V{bottom:.1}H{right}\"/>")?;
        let (x_name, y_name) = (escape(&self.plot.x.label), escape(&self.plot.y.label));
        writeln!(self.out, "<text class=\"name\" x=\"2\" y=\"12\">{y_name}</text>")?;
        writeln!(self.out, "<text class=\"name end\" x=\"{right}\" y=\"{:.1}\">{x_name}</text>", bottom + 36.0)
    }

    /// The time an event lasted, behind the content.
    fn band(&mut self, event: &Event) -> fmt::Result {
        let Some(to) = event.to else { return Ok(()) };
        let (x, top, tone, title) = (self.x(event.from), self.top, event.tone.class(), escape(&event.label));
        let (width, height) = ((self.x(to) - x).max(1.0), self.bottom() - top);
        write!(
            self.out,
            "<rect class=\"band {tone}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\">"
        )?;
        writeln!(self.out, "<title>{title}</title></rect>")
    }

    /// The moment an event began, before the content, and the label where there is room for it.
    fn mark(&mut self, event: &Event, label: Option<Label>) -> fmt::Result {
        let (x, bottom, tone, title) = (self.x(event.from), self.bottom(), event.tone.class(), escape(&event.label));
        let start = label.map_or(self.top, |label| self.row(label.row));
        write!(self.out, "<path class=\"mark {tone}\" d=\"M{x:.1} {start:.1}V{bottom:.1}\">")?;
        writeln!(self.out, "<title>{title}</title></path>")?;
        let Some(label) = label else { return Ok(()) };
        let (x, y) = (label.x + 4.0, self.row(label.row) + 10.0);
        writeln!(self.out, "<text class=\"event {tone}\" x=\"{x:.1}\" y=\"{y:.1}\">{title}</text>")
    }

    /// Where a row of event labels begins; the first is the highest.
    fn row(&self, row: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most EVENT_ROWS_MAX")]
        let above = row as f64 * EVENT_ROW;
        TOP - 4.0 + above
    }

    fn line(&mut self, series: &Series) -> fmt::Result {
        let (tone, stroke) = (series.tone.class(), series.stroke.class());
        write!(self.out, "<path class=\"line {stroke} {tone}\" d=\"")?;
        let mut connected = false;
        for &(x, value) in &series.points {
            let Some(value) = value else {
                connected = false;
                continue;
            };
            let (x, y) = (self.x(x), self.y(value));
            // `h0` makes a dot of a point that has no neighbours.
            let (command, dot) = if connected { ('L', "") } else { ('M', "h0") };
            write!(self.out, "{command}{x:.1} {y:.1}{dot}")?;
            connected = true;
        }
        writeln!(self.out, "\"/>")
    }

    /// One path for each layer, one box in it for each bar.
    fn bars(&mut self, from: f64, width: f64, layers: &[Layer]) -> fmt::Result {
        let bars = layers.iter().map(|layer| layer.values.len()).max().unwrap_or_default();
        let mut floors = vec![0.0; bars];
        for layer in layers {
            write!(self.out, "<path class=\"bar {}\" d=\"", layer.tone.class())?;
            let mut left = from;
            for (value, floor) in layer.values.iter().zip(&mut floors) {
                let (x, right) = (self.x(left), self.x(left + width));
                let gap = if right - x >= GAP_FROM_WIDTH { 1.0 } else { 0.0 };
                let (bottom, top) = (self.y(*floor), self.y(*floor + value));
                if *value > 0.0 {
                    write!(self.out, "M{x:.1} {top:.1}V{bottom:.1}H{:.1}V{top:.1}z", right - gap)?;
                }
                *floor += value;
                left += width;
            }
            writeln!(self.out, "\"/>")?;
        }
        Ok(())
    }

    /// Invisible boxes over the whole height that have the tooltips.
    fn hints(&mut self) -> fmt::Result {
        if self.plot.hints.len() > HINTS_MAX {
            return Ok(());
        }
        let (top, height) = (self.top, self.bottom() - self.top);
        for (from, to, text) in &self.plot.hints {
            let (x, width) = (self.x(*from), self.x(*to) - self.x(*from));
            write!(
                self.out,
                "<rect class=\"hint\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\">"
            )?;
            writeln!(self.out, "<title>{}</title></rect>", escape(text))?;
        }
        Ok(())
    }
}
