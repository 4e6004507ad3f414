//! The HTML of a plot: its title, its legend and two drawings, of which the style sheet shows one.

use super::{Content, Plot, Stroke, Tone, draw};
use crate::html::escape;

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
    use crate::plot::{Axis, Event, Layer, Scale, Series};

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
