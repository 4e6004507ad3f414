//! Plots as inline SVG: lines or stacked bars over labelled axes, with events marked as vertical lines and bands.
//!
//! A plot is a value; [`Plot::figure`] makes the HTML. It is drawn twice, wide and narrow, and the style sheet shows the one
//! that fits: scaling one drawing down to a phone would make its text unreadable. Colours come from [`STYLE`], which follows
//! the reader's light or dark; series differ by dash as well as by colour where the caller says so.
//!
//! What is honest is the default: a missing value breaks the line instead of being drawn as zero, bars begin at zero, values
//! off the scale are cut at the frame, and axes carry their unit in the label.

mod draw;
mod scale;

pub use scale::{Axis, Scale};

use super::html::escape;

/// The style sheet of plots; [`super::document`] has it already.
pub const STYLE: &str = include_str!("plot/plot.css");

/// A figure with a title, a legend and one pair of axes.
#[derive(Debug, Clone)]
pub struct Plot {
    /// Plain text, as all texts here.
    pub title: String,
    /// One sentence below the title; may be empty.
    pub note: String,
    /// The axis to the right.
    pub x: Axis,
    /// The axis upwards.
    pub y: Axis,
    /// What is drawn.
    pub content: Content,
    /// What happened meanwhile: bands behind the content, lines before it.
    pub events: Vec<Event>,
    /// Tooltips: from x to x, and the text; lines are separated by `\n`.
    pub hints: Vec<(f64, f64, String)>,
}

/// What a plot shows.
#[derive(Debug, Clone)]
pub enum Content {
    /// Lines, the first in front.
    Lines(Vec<Series>),
    /// Bars of one width side by side, their layers one upon the other.
    Bars {
        /// Where the first begins, on the x scale.
        from: f64,
        /// How wide each is, on the x scale.
        width: f64,
        /// From the bottom up.
        layers: Vec<Layer>,
    },
}

/// One line.
#[derive(Debug, Clone)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// Its colour.
    pub tone: Tone,
    /// Its dash.
    pub stroke: Stroke,
    /// (x, y) with x rising; the line is broken where y is missing.
    pub points: Vec<(f64, Option<f64>)>,
}

/// One layer of all bars.
#[derive(Debug, Clone)]
pub struct Layer {
    /// For the legend.
    pub name: String,
    /// Its colour.
    pub tone: Tone,
    /// One height for each bar.
    pub values: Vec<f64>,
}

/// Something that happened at a time or for a time.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, on the x scale.
    pub from: f64,
    /// Until when, for a band; absent for a line.
    pub to: Option<f64>,
    /// A few words; left out of the drawing (not of the tooltip) where there is no room.
    pub label: String,
    /// Its colour.
    pub tone: Tone,
}

/// How a line is dashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// Not at all.
    Solid,
    /// In dashes.
    Dashed,
    /// In dots.
    Dotted,
}

/// A colour by name; how it looks is up to the style sheet, in light and dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "colours")]
pub enum Tone {
    Blue,
    Orange,
    Green,
    Red,
    Purple,
    Pink,
    Sky,
    Yellow,
    Brown,
    Grey,
    Ink,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Blue => "t-blue",
            Self::Orange => "t-orange",
            Self::Green => "t-green",
            Self::Red => "t-red",
            Self::Purple => "t-purple",
            Self::Pink => "t-pink",
            Self::Sky => "t-sky",
            Self::Yellow => "t-yellow",
            Self::Brown => "t-brown",
            Self::Grey => "t-grey",
            Self::Ink => "t-ink",
        }
    }
}

impl Stroke {
    fn class(self) -> &'static str {
        match self {
            Self::Solid => "solid",
            Self::Dashed => "dashed",
            Self::Dotted => "dotted",
        }
    }
}

impl Plot {
    /// The HTML of the figure.
    #[must_use]
    pub fn figure(&self) -> String {
        let note = if self.note.is_empty() { String::new() } else { format!("<p>{}</p>", escape(&self.note)) };
        let body = if self.is_empty() {
            "<p class=\"nothing\">Nothing to show: there were no requests.</p>\n".to_owned()
        } else {
            format!("{}{}{}", self.legend(), draw::svg(self, draw::WIDE), draw::svg(self, draw::NARROW))
        };
        format!(
            "<figure class=\"plot\">\n<figcaption><h2>{}</h2>{note}</figcaption>\n{body}</figure>\n",
            escape(&self.title)
        )
    }

    fn is_empty(&self) -> bool {
        match &self.content {
            Content::Lines(series) => series.iter().all(|s| s.points.iter().all(|(_, y)| y.is_none())),
            Content::Bars { layers, .. } => layers.iter().all(|layer| layer.values.is_empty()),
        }
    }

    fn legend(&self) -> String {
        let entries: Vec<String> = match &self.content {
            Content::Lines(series) => series.iter().map(|s| line_entry(s.tone, s.stroke, &s.name)).collect(),
            // In the order in which the eye meets them: from the top down.
            Content::Bars { layers, .. } => layers.iter().rev().map(|l| block_entry(l.tone, &l.name)).collect(),
        };
        format!("<ul class=\"legend\">\n{}</ul>\n", entries.concat())
    }
}

fn line_entry(tone: Tone, stroke: Stroke, name: &str) -> String {
    let (tone, stroke) = (tone.class(), stroke.class());
    let swatch = format!(
        "<svg width=\"26\" height=\"8\" aria-hidden=\"true\"><path class=\"line {stroke}\" d=\"M2 4H24\"/></svg>"
    );
    format!("<li class=\"{tone}\">{swatch}{}</li>\n", escape(name))
}

fn block_entry(tone: Tone, name: &str) -> String {
    let swatch = "<svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect class=\"bar\" width=\"12\" height=\"12\" rx=\"2\"/></svg>";
    format!("<li class=\"{}\">{swatch}{}</li>\n", tone.class(), escape(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(content: Content) -> Plot {
        Plot {
            title: "a < b".to_owned(),
            note: String::new(),
            x: Axis::time(0.0, 4.0),
            y: Axis { label: "requests".to_owned(), scale: Scale::from_zero(10.0) },
            content,
            events: Vec::new(),
            hints: Vec::new(),
        }
    }

    fn line(points: &[(f64, Option<f64>)]) -> Plot {
        let series = Series { name: "p50".into(), tone: Tone::Blue, stroke: Stroke::Solid, points: points.to_vec() };
        plot(Content::Lines(vec![series]))
    }

    fn path_of(figure: &str, class: &str) -> String {
        let drawing = figure.split("class=\"frame").nth(1).expect("a drawing");
        let path = drawing.split(class).nth(1).expect("a path");
        path.split("d=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("its points").to_owned()
    }

    #[test]
    fn a_missing_value_breaks_the_line() {
        let whole = line(&[(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, Some(3.0))]).figure();
        let broken = line(&[(0.0, Some(1.0)), (1.0, None), (2.0, Some(3.0))]).figure();
        assert_eq!(path_of(&whole, "line solid").matches('M').count(), 1);
        assert_eq!(path_of(&broken, "line solid").matches('M').count(), 2);
    }

    #[test]
    fn without_a_single_value_the_figure_says_so() {
        assert!(line(&[(0.0, None)]).figure().contains("Nothing to show"));
        assert!(line(&[]).figure().contains("Nothing to show"));
    }

    #[test]
    fn axes_title_and_legend_are_in_the_figure_and_escaped() {
        let figure = line(&[(0.0, Some(1.0))]).figure();
        for part in ["a &lt; b", "time since start, s", "requests", "p50", "role=\"img\""] {
            assert!(figure.contains(part), "{part}: {figure}");
        }
    }

    #[test]
    fn the_second_layer_stands_on_the_first() {
        let layer = |tone, value| Layer { name: "x".into(), tone, values: vec![value] };
        let layers = vec![layer(Tone::Green, 4.0), layer(Tone::Red, 6.0)];
        let figure = plot(Content::Bars { from: 0.0, width: 1.0, layers }).figure();
        let (below, above) = (path_of(&figure, "bar t-green"), path_of(&figure, "bar t-red"));
        // M x top V bottom …: the top of the lower is the bottom of the upper.
        let top = |path: &str| path[1..].split(['V', ' ']).nth(1).expect("a top").to_owned();
        let bottom = |path: &str| path.split(['V', 'H']).nth(1).expect("a bottom").to_owned();
        assert_eq!(top(&below), bottom(&above), "{below} {above}");
    }

    #[test]
    fn an_event_has_its_label_and_a_band_its_width() {
        let mut with_events = line(&[(0.0, Some(1.0)), (4.0, Some(1.0))]);
        let event = |from, to, label: &str| Event { from, to, label: label.to_owned(), tone: Tone::Red };
        with_events.events = vec![event(1.0, Some(2.0), "breaker open"), event(3.0, None, "fault off")];
        let figure = with_events.figure();
        for part in ["class=\"band t-red\"", "class=\"mark t-red\"", "breaker open</text>", "<title>fault off</title>"]
        {
            assert!(figure.contains(part), "{part}: {figure}");
        }
    }
}
