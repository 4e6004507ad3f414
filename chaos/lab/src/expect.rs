//! The product's claims, each checked against what was measured. Pure.
//!
//! A claim about a part that was not run is left out, never passed.

use std::time::Duration;

use report::format;

use crate::experiment::HANG_ATTEMPT;
use crate::outage::Outage;
use crate::results::{Expectation, Part, Results, Sidecar, number};

/// Part b and b_tuned: the share of requests that must succeed.
const SUCCESS_MIN: f64 = 0.99;
/// Part a: the share that is left of 15 % errors, and how far chance may take it from there.
const BASELINE: f64 = 0.85;
const BASELINE_SLACK: f64 = 0.02;
/// Outages: 99 % of the responses while a breaker is open come within this.
const IMMEDIATE_MS: f64 = 50.0;
/// Outages: from the beginning to an open breaker. At 200 requests a second 20 failures in a row take a tenth of that, and 20 timeouts one
/// attempt longer.
const DETECTED_MS: f64 = 1_000.0;
/// Outages: what may be added to the open time until all succeeds again.
const RECOVERY_SLACK_MS: f64 = 1_000.0;
/// Part c_three: the share of requests that must succeed.
const THREE_SUCCESS_MIN: f64 = 0.999;
/// Part c_three: failures in a row that open a breaker by default.
const CONSECUTIVE_FAILURES: u64 = 20;
/// Part c_hang: so many times fewer requests must wait for long than straight.
const WAITING_FACTOR: f64 = 10.0;

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
            claims.add(&format!("{name}.success"), text, part.success_rate >= SUCCESS_MIN, [part.success(), wanted]);
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
    if let Some((part, outage)) = suffered(results, "c") {
        claims.opened("c", outage);
        claims.recovered("c", part, outage, RECOVERY_SLACK_MS);
    }
    if let Some((part, sidecar)) = through(results, "c_three") {
        claims.redundancy(part, sidecar);
    }
    if let Some((part, outage)) = suffered(results, "c_hang") {
        claims.opened("c_hang", outage);
        // The probe that fails last may have begun just before the return.
        claims.recovered("c_hang", part, outage, RECOVERY_SLACK_MS + ms(HANG_ATTEMPT));
        if let Some((straight_part, straight)) = suffered(results, "c_hang_direct") {
            let share = |part: &Part, outage: &Outage| number(outage.slow) / number(part.requests.max(1));
            claims.waiting([share(straight_part, straight), share(part, outage)]);
        }
    }
    claims.0
}

fn through<'a>(results: &'a Results, name: &str) -> Option<(&'a Part, &'a Sidecar)> {
    let part = results.part(name)?;
    Some((part, part.sidecar.as_ref()?))
}

fn suffered<'a>(results: &'a Results, name: &str) -> Option<(&'a Part, &'a Outage)> {
    let part = results.part(name)?;
    Some((part, part.outage.as_ref()?))
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
        self.add("a.success", text, holds, [part.success(), wanted]);
        let text = "the client itself repeats nothing: the backend is asked once for each request";
        let received = format!("{} of {} requests", part.backend_received, part.requests);
        self.add("a.once", text, part.backend_received == part.requests, [received, "the same".to_owned()]);
    }

    fn storm(&mut self, part: &Part, sidecar: &Sidecar) {
        let refused = sidecar.retries_refused_by_budget;
        let measured =
            format!("{refused} retries refused for want of budget, of {} called for", refused + part.retries);
        let text = "at 30 % errors the budget, not the backend, ends the retries";
        let holds = refused > 0 && sidecar.budget_exhausted > 0;
        self.add("b_storm.budget_held", text, holds, [measured, "some".to_owned()]);
        let text = "retries still help as far as the budget goes";
        let plain = 1.0 - crate::experiment::Experiment::named("b_storm").map_or(0.0, |storm| storm.faults.errors);
        let wanted = format!("> {}", percent(plain));
        self.add("b_storm.success", text, part.success_rate > plain, [part.success(), wanted]);
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

    fn opened(&mut self, name: &str, outage: &Outage) {
        let text = "the breaker opens soon after the backend has gone";
        self.within(&format!("{name}.detected"), text, outage.detected_after_ms, DETECTED_MS);
        let text = "while it is open the client gets a response at once (p99 of those responses)";
        self.within(&format!("{name}.immediate"), text, outage.failed_while_open_p99_ms, IMMEDIATE_MS);
    }

    fn recovered(&mut self, name: &str, part: &Part, outage: &Outage, slack_ms: f64) {
        let recovery_max_ms = outage.last_open_ms.unwrap_or_default() + slack_ms;
        let slack = format!("{} s", slack_ms / 1_000.0);
        let text = format!("after the return all succeeds again within one open time and {slack}");
        self.within(&format!("{name}.recovered"), &text, outage.recovered_after_ms, recovery_max_ms);
        let down_s = outage.returned_at_s - outage.killed_at_s;
        let failed_max = ((down_s + recovery_max_ms / 1_000.0) / part.elapsed_s).min(1.0);
        let failed = number(part.failed()) / number(part.requests.max(1));
        let text = format!("no more fails than the time down, one open time and {slack} explain");
        let share = part.failure();
        let pair = [format!("{share} failed"), format!("≤ {}", percent(failed_max))];
        self.add(&format!("{name}.kept"), &text, failed <= failed_max, pair);
    }

    fn redundancy(&mut self, part: &Part, sidecar: &Sidecar) {
        let wanted = format!("≥ {} %", THREE_SUCCESS_MIN * 100.0);
        let text = "with two more backends a kill of one goes unnoticed";
        self.add("c_three.success", text, part.success_rate >= THREE_SUCCESS_MIN, [part.success(), wanted]);
        let moves = &sidecar.breaker.transitions;
        let probes = moves.iter().filter(|moved| moved.scope == "endpoint" && moved.to == "half_open").count();
        let opened = moves.iter().any(|moved| moved.scope == "endpoint" && moved.to == "open");
        let refused_max = CONSECUTIVE_FAILURES + u64::try_from(probes).unwrap_or(u64::MAX);
        let holds = opened && sidecar.connects_refused <= refused_max;
        let text = "once its breaker is open, the dead endpoint is tried by probes only";
        let measured = format!("{} connections refused", sidecar.connects_refused);
        let wanted = format!("≤ {CONSECUTIVE_FAILURES} that open it + {probes} probes");
        self.add("c_three.left_alone", text, holds, [measured, wanted]);
    }

    fn waiting(&mut self, [straight, through]: [f64; 2]) {
        let max = straight / WAITING_FACTOR;
        let text =
            format!("far fewer requests take longer than a second than without a sidecar ({})", percent(straight));
        self.add("c_hang.waiting", &text, through < max, [percent(through), format!("< {}", percent(max))]);
    }

    /// A claim that something took no longer; what did not happen is not quick.
    fn within(&mut self, name: &str, text: &str, duration_ms: Option<f64>, max_ms: f64) {
        let measured = duration_ms.map_or_else(|| "never".to_owned(), |ms| format::with_ms(Some(ms)));
        let holds = duration_ms.is_some_and(|ms| ms <= max_ms);
        self.add(name, text, holds, [measured, format!("≤ {max_ms:.0} ms")]);
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// A limit as a percentage with one decimal.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy_log::tests::transition;
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

    #[test]
    fn a_dead_endpoint_is_left_alone_when_only_its_probes_find_it_dead() {
        let check = |connects_refused: u64, moves: &[&str], expected: bool| {
            let mut three = part("three", 1_000, Some(20));
            let sidecar = three.sidecar.as_mut().expect("it went through");
            sidecar.connects_refused = connects_refused;
            let moved = |to: &&str| transition(2.1, "endpoint", "closed", to, None);
            sidecar.breaker.transitions = moves.iter().map(moved).collect();
            let mut results = example();
            results.parts.insert("c_three".to_owned(), three);
            assert_eq!(holds(&results, "c_three.left_alone"), expected, "{connects_refused} {moves:?}");
        };
        check(21, &["open", "half_open"], true);
        check(22, &["open", "half_open"], false);
        check(0, &[], false);
    }

    #[test]
    fn waiting_is_judged_against_the_straight_way() {
        let check = |slow: u64, expected: bool| {
            let mut results = example();
            for (name, slow) in [("c_hang_direct", 300), ("c_hang", slow)] {
                let outage = Outage { slow, ..Outage::read(&[], &[], 2.0, 5.0) };
                results.parts.insert(name.to_owned(), Part { outage: Some(outage), ..part(name, 700, Some(3)) });
            }
            assert_eq!(holds(&results, "c_hang.waiting"), expected, "{slow}");
        };
        check(29, true);
        check(30, false);
    }
}
