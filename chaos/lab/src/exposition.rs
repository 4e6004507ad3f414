//! Prometheus' text format 0.0.4, read as simply as the lab needs it: names, labels, values. Comments are skipped, time stamps ignored.

/// All samples of one scrape, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(Vec<Sample>);

/// One sample: a name, labels and a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// With its suffix, such as `_bucket`.
    pub name: String,
    /// In the order of the line.
    pub labels: Vec<(String, String)>,
    /// `+Inf` and `NaN` are possible.
    pub value: f64,
}

impl Sample {
    /// The value of this label, if the sample has it.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Samples {
    /// Reads an exposition.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| sample(line).ok_or_else(|| format!("no sample: {line}"))).collect::<Result<_, _>>().map(Self)
    }

    /// The samples in the order of the scrape.
    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter()
    }

    /// Those of this name with all of these labels.
    pub fn of<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        let fits = move |sample: &&Sample| labels.iter().all(|(label, value)| sample.label(label) == Some(value));
        self.0.iter().filter(move |sample| sample.name == name).filter(fits)
    }

    /// Their sum; 0 if there are none, as a counter that was never touched may not be there.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.of(name, labels).map(|sample| sample.value).sum()
    }

    /// Their sum as a count.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole and not negative")]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels) as u64
    }
}

/// `name{label="value",…} 1 [time]`
fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.push((name.to_owned(), value));
        rest = after;
    }
}

/// A value up to its closing quote, unescaped, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP a_total Some help {with=\"braces\"} 7
# TYPE a_total counter
a_total{route=\"x\",why=\"one\"} 3
a_total{route=\"x\",why=\"two\"} 4 1700000000000
a_total{route=\"y, \\\"z\\\" }\",why=\"one\"} 5
plain 0.5
b_bucket{le=\"+Inf\"} 2
";

    #[test]
    fn samples_are_summed_by_the_labels_asked_for() {
        let samples = Samples::parse(TEXT).expect("valid");
        let check = |labels: &[(&str, &str)], expected: u64| assert_eq!(samples.count("a_total", labels), expected);
        check(&[], 12);
        check(&[("route", "x")], 7);
        check(&[("route", "x"), ("why", "two")], 4);
        check(&[("route", "y, \"z\" }")], 5);
        check(&[("route", "none")], 0);
        assert_eq!(samples.sum("plain", &[]), 0.5);
        assert_eq!(samples.sum("b_bucket", &[("le", "+Inf")]), 2.0);
    }

    #[test]
    fn a_line_that_is_no_sample_is_named() {
        for line in ["name", "name{a=\"1\" 3", "name{a=\"1} 3", "name three"] {
            assert_eq!(Samples::parse(line), Err(format!("no sample: {line}")));
        }
    }
}
