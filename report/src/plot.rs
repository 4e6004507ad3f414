//! Plots as inline SVG: lines or stacked bars over labelled axes, with events marked as vertical lines and bands.
//!
//! A plot is a value; [`Plot::figure`] makes the HTML. It is drawn twice, wide and narrow, and the style sheet shows the one
//! that fits: scaling one drawing down to a phone would make its text unreadable. Colours come from [`STYLE`], which follows
//! the reader's light or dark mode. Lines can differ by dash as well as by colour.
//!
//! The defaults do not flatter: a missing value breaks the line instead of being drawn as zero, bars begin at zero, values
//! off the scale are cut at the frame, and axes carry their unit in the label.

mod draw;
mod figure;
mod scale;

pub use scale::{Axis, Scale};

/// The style sheet of plots; [`crate::page::document`] includes it.
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
    /// Lines or bars.
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

/// One line of a plot.
#[derive(Debug, Clone)]
pub struct Series {
    /// For the legend, plain text.
    pub name: String,
    /// The colour of the line.
    pub tone: Tone,
    /// How the line is dashed.
    pub stroke: Stroke,
    /// (x, y) with x rising; the line is broken where y is missing.
    pub points: Vec<(f64, Option<f64>)>,
}

/// One layer of all bars.
#[derive(Debug, Clone)]
pub struct Layer {
    /// For the legend, plain text.
    pub name: String,
    /// The colour of the layer.
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
    /// The colour of the line or band.
    pub tone: Tone,
}

/// How a line is dashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// An unbroken line.
    Solid,
    /// 7 units drawn, 5 left out.
    Dashed,
    /// Points, 5 units apart.
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
    /// Latency in ms by quantile (0 to 1), a line for each series. `requests` is how many the largest series has: it says how far out the
    /// quantiles mean anything.
    #[must_use]
    pub fn percentiles(note: &str, requests: u64, series: Vec<Series>) -> Self {
        Self {
            title: "Latency by percentile".to_owned(),
            note: note.to_owned(),
            x: Axis { label: "share of requests".to_owned(), scale: Scale::tail(requests) },
            y: Axis::latency(values(&series)),
            content: Content::Lines(series),
            events: Vec::new(),
            hints: Vec::new(),
        }
    }
}

/// All values of these lines.
pub fn values(series: &[Series]) -> impl Iterator<Item = f64> {
    series.iter().flat_map(|series| &series.points).filter_map(|point| point.1)
}
