//! What was measured: the value behind the tables, `results.json` and the page.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The form of the JSON; raised when an old reader would read a new file wrongly.
pub(crate) const SCHEMA: u32 = 1;

/// The results of one run of the bench.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    /// See [`SCHEMA`].
    pub(crate) schema: u32,
    /// RFC 3339.
    pub(crate) started: String,
    /// Processors, and the kernel's release.
    pub(crate) machine: String,
    /// How long each load was measured.
    pub(crate) seconds: f64,
    /// What each peer calls its version; those that were not there are missing.
    pub(crate) versions: BTreeMap<String, String>,
    /// Of the product's program.
    pub(crate) binary_bytes: u64,
    /// By scenario, case and figure, in the order of rounds.
    pub(crate) figures: BTreeMap<String, Cases>,
}

/// The figures of a scenario, by case.
pub(crate) type Cases = BTreeMap<String, Figures>;
/// By figure: `cpu_us`, `user_us` and `system_us` of the proxy per request, `per_second`, `success` and `busy` (0 to 1: of the load's or the origin's one
/// core), `p50_us` and the like from the moment a request was due, `start_ms`, `idle_mib`, `open_mib`, `after_mib`.
pub(crate) type Figures = BTreeMap<String, Vec<f64>>;

/// A median and what lies around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }
}

impl Results {
    /// Reads `results.json`.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| named(&error))?;
        let results: Self = serde_json::from_str(&text).map_err(|error| named(&error))?;
        if results.schema != SCHEMA {
            return Err(named(&format_args!("schema {}, this program reads {SCHEMA}", results.schema)));
        }
        Ok(results)
    }

    /// Adds what a round has brought.
    pub(crate) fn add(&mut self, scenario: &str, case: &str, figures: impl IntoIterator<Item = (String, f64)>) {
        let cases = self.figures.entry(scenario.to_owned()).or_default().entry(case.to_owned()).or_default();
        for (figure, value) in figures {
            cases.entry(figure).or_default().push(value);
        }
    }

    /// One value a round; empty if it was not measured.
    pub(crate) fn rounds(&self, scenario: &str, case: &str, figure: &str) -> &[f64] {
        let figures = self.figures.get(scenario).and_then(|cases| cases.get(case));
        figures.and_then(|figures| figures.get(figure)).map_or(&[], Vec::as_slice)
    }

    /// Median, minimum and maximum over all rounds; `None` if it was not measured.
    pub(crate) fn spread(&self, scenario: &str, case: &str, figure: &str) -> Option<Spread> {
        Spread::of(self.rounds(scenario, case, figure))
    }

    /// One case against another, round by round.
    pub(crate) fn combined(
        &self,
        scenario: &str,
        figure: &str,
        [case, other]: [&str; 2],
        combine: fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let pairs = self.rounds(scenario, case, figure).iter().zip(self.rounds(scenario, other, figure));
        Spread::of(&pairs.map(|(value, other)| combine(*value, *other)).collect::<Vec<_>>())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Results with a few figures of two rounds.
    pub(crate) fn example() -> Results {
        let mut results = Results {
            schema: SCHEMA,
            started: "2026-01-01T00:00:00Z".to_owned(),
            machine: "2 processors, Linux 6.18".to_owned(),
            seconds: 3.0,
            versions: [("haproxy".to_owned(), "2.6".to_owned())].into(),
            binary_bytes: 4 * 1024 * 1024,
            figures: BTreeMap::new(),
        };
        for (case, cpu_us) in [("relay", [12.0, 12.4]), ("outrigger", [18.0, 19.0]), ("haproxy", [24.0, 25.0])] {
            for (cpu_us, round) in cpu_us.into_iter().zip([1.0, 2.0]) {
                let figures = [
                    ("cpu_us", cpu_us),
                    ("user_us", cpu_us / 3.0),
                    ("system_us", cpu_us / 1.5),
                    ("per_second", 50_000.0 / cpu_us),
                    ("success", 1.0),
                    ("start_ms", 5.0 + round),
                ];
                results.add("saturation", case, figures.map(|(name, value)| (name.to_owned(), value)));
            }
        }
        results
    }

    #[test]
    fn a_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let check = |values: &[f64], expected: Option<f64>| {
            assert_eq!(Spread::of(values).map(|spread| spread.median), expected);
        };
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
        check(&[9.0, 1.0, 2.0, 3.0], Some(2.5));
    }

    #[test]
    fn a_ratio_is_one_of_rounds_and_not_of_medians() {
        let ratio =
            example().combined("saturation", "cpu_us", ["outrigger", "haproxy"], |a, b| a / b).expect("both are there");
        assert_eq!((ratio.min, ratio.max), (0.75, 0.76));
    }
}
