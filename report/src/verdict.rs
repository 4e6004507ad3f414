//! Claims with what was measured: a tick or a cross for each, in text and as a list on a page.

use crate::html::escape;

/// A claim and what a run says of it.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// The short name in results; empty if the claim has none.
    pub name: &'a str,
    /// The claim as a sentence.
    pub text: &'a str,
    /// What was measured, with its unit.
    pub measured: &'a str,
    /// What the claim allows, with its unit.
    pub wanted: &'a str,
    /// Absent if the run did not measure it.
    pub holds: Option<bool>,
}

impl Verdict<'_> {
    /// A tick, a cross, or a dot for what was not measured.
    #[must_use]
    pub fn mark(&self) -> &'static str {
        match self.holds {
            Some(true) => "✓",
            Some(false) => "✗",
            None => "·",
        }
    }

    fn line(&self) -> String {
        let class = if self.holds == Some(true) { "good" } else { "bad" };
        let name = if self.name.is_empty() { String::new() } else { format!("<code>{}</code> ", escape(self.name)) };
        let (text, measured, wanted) = (escape(self.text), escape(self.measured), escape(self.wanted));
        let mark = self.mark();
        format!(
            "<li class=\"{class}\"><b>{mark}</b> {name}{text}: <b>{measured}</b> <small>wanted {wanted}</small></li>\n"
        )
    }
}

/// The HTML list of these verdicts.
#[must_use]
pub fn list<'a>(verdicts: impl Iterator<Item = Verdict<'a>>) -> String {
    let lines: String = verdicts.map(|verdict| verdict.line()).collect();
    format!("<ul class=\"verdicts\">\n{lines}</ul>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_does_not_hold_has_a_cross_and_one_that_was_not_measured_a_dot() {
        let verdict = |holds| Verdict { name: "", text: "t", measured: "1", wanted: "2", holds };
        assert_eq!([Some(true), Some(false), None].map(|holds| verdict(holds).mark()), ["✓", "✗", "·"]);
        assert!(list([verdict(Some(false))].into_iter()).contains("<li class=\"bad\"><b>✗</b> t: <b>1</b>"));
    }
}
