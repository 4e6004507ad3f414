//! The product's claims, each held against what was measured. Pure.
//!
//! A claim about a part that was not run is left out, never passed.

use client::format;
use serde::{Deserialize, Serialize};

use crate::outage::Outage;
use crate::results::{Part, Results, Sidecar, number};

/// Part b and b_tuned: the share of requests that must succeed.
const SUCCESS_MIN: f64 = 0.99;
/// Part a: the share that is left of 15 % errors, and how far chance may take it from there.
const BASELINE: f64 = 0.85;
const BASELINE_SLACK: f64 = 0.02;
/// Part c: 99 % of the answers while open come within this.
const IMMEDIATE_MS: f64 = 50.0;
/// Part c: from the kill to an open breaker. At 200 requests a second 20 failures in a row take a tenth of that.
const DETECTED_MS: f64 = 1_000.0;
/// Part c: what may be added to the open time until all succeeds again.
const RECOVERY_SLACK_MS: f64 = 1_000.0;

/// One claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Begins with the part's name.
    pub name: String,
    /// The claim as a sentence.
    pub text: String,
    /// Whether it was seen to be true.
    pub holds: bool,
    /// What was seen.
    pub measured: String,
    /// What would be true.
    pub wanted: String,
}

/// All claims about the parts that were run.
#[must_use]
pub fn all(results: &Results) -> Vec<Expectation> {
    let mut claims = Claims(Vec::new());
    if let Some(part) = results.part("a") {
        claims.baseline(part);
    }
    for (name, text) in [
        ("b", "retries hide an error rate of 15 %"),
        ("b_tuned", "more attempts and a larger budget hide an error rate of 30 %"),
    ] {
        if let Some(part) = results.part(name) {
            let wanted = format!("≥ {} %", SUCCESS_MIN * 100.0);
            claims.add(&format!("{name}.success"), text, part.success_rate >= SUCCESS_MIN, [succeeded(part), wanted]);
        }
    }
    if let Some((part, sidecar)) = through(results, "b_storm") {
        claims.storm(part, sidecar);
    }
    if let Some(part) = results.part("b_post") {
        let text = "a POST that has reached the backend is never sent a second time";
        let measured = format!("{} ids twice", part.repeated_ids);
        claims.add("b_post.once", text, part.repeated_ids == 0, [measured, "0".to_owned()]);
    }
    for (name, part) in results.in_order() {
        if let Some(sidecar) = &part.sidecar {
            claims.bound(name, part, sidecar);
        }
    }
    if let Some((part, _)) = through(results, "c")
        && let Some(outage) = &part.outage
    {
        claims.outage(part, outage);
    }
    claims.0
}

fn through<'a>(results: &'a Results, name: &str) -> Option<(&'a Part, &'a Sidecar)> {
    let part = results.part(name)?;
    Some((part, part.sidecar.as_ref()?))
}

struct Claims(Vec<Expectation>);

impl Claims {
    /// Adds a claim with what was measured and what was wanted.
    fn add(&mut self, name: &str, text: &str, holds: bool, [measured, wanted]: [String; 2]) {
        self.0.push(Expectation { name: name.to_owned(), text: text.to_owned(), holds, measured, wanted });
    }

    fn baseline(&mut self, part: &Part) {
        // Three standard deviations, where there are too few requests for less.
        let chance = 3.0 * (BASELINE * (1.0 - BASELINE) / number(part.requests.max(1))).sqrt();
        let slack = BASELINE_SLACK.max(chance);
        let holds = (part.success_rate - BASELINE).abs() <= slack;
        let wanted = format!("{:.0} % ± {:.1} points", BASELINE * 100.0, slack * 100.0);
        let text = "without a sidecar 15 % errors are 15 % failures";
        self.add("a.success", text, holds, [succeeded(part), wanted]);
        let text = "the client itself repeats nothing: the backend is asked once for each request";
        let received = format!("{} of {} requests", part.backend_received, part.requests);
        self.add("a.once", text, part.backend_received == part.requests, [received, "the same".to_owned()]);
    }

    fn storm(&mut self, part: &Part, sidecar: &Sidecar) {
        let refused = sidecar.retries_refused_by_budget;
        let measured =
            format!("{refused} retries refused for want of budget, of {} called for", refused + sidecar.retries);
        let text = "at 30 % errors the budget, not the backend, ends the retries";
        let holds = refused > 0 && sidecar.budget_exhausted > 0;
        self.add("b_storm.budget_held", text, holds, [measured, "some".to_owned()]);
        let text = "retries still help as far as the budget goes";
        let plain = 1.0 - crate::experiment::Experiment::named("b_storm").map_or(0.0, |storm| storm.faults.errors);
        let wanted = format!("> {}", percent(plain));
        self.add("b_storm.success", text, part.success_rate > plain, [succeeded(part), wanted]);
    }

    fn bound(&mut self, name: &str, part: &Part, sidecar: &Sidecar) {
        let budget = &sidecar.budget;
        let text = format!(
            "the backend gets no more than (1 + {}) × {} requests + {}/s × ({:.1} s + {} s)",
            budget.ratio, part.requests, budget.floor_per_second, part.elapsed_s, budget.window_seconds
        );
        let holds = number(part.backend_received) <= sidecar.backend_received_max;
        let pair = [part.backend_received.to_string(), format!("≤ {:.0}", sidecar.backend_received_max)];
        self.add(&format!("{name}.extra_load"), &text, holds, pair);
    }

    fn outage(&mut self, part: &Part, outage: &Outage) {
        self.within("c.detected", "the breaker opens soon after the kill", outage.detected_after_ms, DETECTED_MS);
        let text = "while it is open the client is answered at once (p99 of those answers)";
        self.within("c.immediate", text, outage.failed_while_open_p99_ms, IMMEDIATE_MS);
        let recovery_max_ms = outage.last_open_ms.unwrap_or_default() + RECOVERY_SLACK_MS;
        let text = "after the return all succeeds again within one open time and a second";
        self.within("c.recovered", text, outage.recovered_after_ms, recovery_max_ms);
        let down_s = outage.returned_at_s - outage.killed_at_s;
        let failed_max = ((down_s + recovery_max_ms / 1_000.0) / part.elapsed_s).min(1.0);
        let failed = number(part.failed()) / number(part.requests.max(1));
        let text = "no more fails than the time down and one open time and a second explain";
        let share = format::share(part.failed(), part.requests);
        let pair = [format!("{share} failed"), format!("≤ {}", percent(failed_max))];
        self.add("c.kept", text, failed <= failed_max, pair);
    }

    /// A claim about part c that something took no longer; what did not happen is not quick.
    fn within(&mut self, name: &str, text: &str, took_ms: Option<f64>, max_ms: f64) {
        let measured = took_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ms", format::ms(Some(ms))));
        let holds = took_ms.is_some_and(|ms| ms <= max_ms);
        self.add(name, text, holds, [measured, format!("≤ {max_ms:.0} ms")]);
    }
}

fn succeeded(part: &Part) -> String {
    format::share(part.succeeded, part.requests)
}

/// A limit.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{example, part};

    fn verdicts(results: &Results) -> Vec<(String, bool)> {
        all(results).into_iter().map(|claim| (claim.name, claim.holds)).collect()
    }

    fn holds(results: &Results, name: &str) -> bool {
        let found = verdicts(results).into_iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("{name} is claimed")).1
    }

    #[test]
    fn only_parts_that_were_run_are_claimed_about() {
        let names: Vec<_> = verdicts(&example()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.success", "a.once", "b.success", "b.extra_load"]);
        assert!(verdicts(&example()).iter().all(|(_, holds)| *holds));
    }

    #[test]
    fn a_claim_fails_from_its_limit_on() {
        let check = |succeeded: u64, name: &str, expected: bool| {
            let mut results = example();
            for part in results.parts.values_mut() {
                (part.succeeded, part.success_rate) = (succeeded, number(succeeded) / 1_000.0);
            }
            assert_eq!(holds(&results, name), expected, "{name} {succeeded}");
        };
        check(990, "b.success", true);
        check(989, "b.success", false);
        check(884, "a.success", false);
        check(883, "a.success", true);
    }

    #[test]
    fn more_than_the_budget_explains_is_a_broken_claim() {
        let mut results = example();
        results.parts.get_mut("b").expect("it is there").backend_received = 1_351;
        assert!(!holds(&results, "b.extra_load"));
    }

    #[test]
    fn a_storm_in_which_no_retry_was_refused_proves_nothing() {
        let mut results = example();
        results.parts.insert("b_storm".to_owned(), part("storm", 900, Some(300)));
        assert!(!holds(&results, "b_storm.budget_held"));
        assert!(holds(&results, "b_storm.success"));
    }

    #[test]
    fn what_never_happened_did_not_happen_in_time() {
        let mut results = example();
        let outage = Outage::read(&[], &[], 2.0, 5.0);
        results.parts.insert("c".to_owned(), Part { outage: Some(outage), ..part("c", 700, Some(3)) });
        for name in ["c.detected", "c.immediate", "c.recovered"] {
            assert!(!holds(&results, name), "{name}");
        }
    }
}
