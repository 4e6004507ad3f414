//! What each pattern bought and what it cost: a sentence for either, from the parts that differ in that pattern only.

use report::format;

use crate::experiment::Experiment;
use crate::results::{Part, Results, Sidecar, number};

/// A line of the balance: a pattern, what it bought, what it cost. Plain text.
pub(super) struct Balance {
    pattern: &'static str,
    bought: String,
    cost: String,
}

impl Balance {
    pub(super) fn cells(self) -> [String; 3] {
        [self.pattern.to_owned(), self.bought, self.cost]
    }
}

/// What each pattern bought and cost, as far as the parts that show it were run.
pub(super) fn bought_and_cost(results: &Results) -> Vec<Balance> {
    let part = |name: &str| results.part(name);
    let through = |name: &str| part(name).and_then(|part| Some((part, part.sidecar.as_ref()?)));
    let lines = [
        part("a").zip(part("b")).map(|(a, b)| retries(a, b)),
        through("b_storm").map(budget),
        through("b_tuned").map(tuning),
        through("b_post").map(caution),
        part("c_direct").zip(through("c")).and_then(|(direct, c)| breaker(direct, c)),
        part("c").zip(through("c_three")).map(|(c, three)| redundancy(c, three)),
        part("c_hang_direct").zip(part("c_hang")).and_then(|(direct, hang)| breaker_of_hang(direct, hang)),
    ];
    lines.into_iter().flatten().collect()
}

fn retries(a: &Part, b: &Part) -> Balance {
    Balance {
        pattern: "Retries",
        bought: format!("{} instead of {}: {} failures left of {}", b.success(), a.success(), b.failed(), a.failed()),
        cost: format!(
            "{} more requests for the backend ({}), {} ms instead of {} ms at p95",
            format::count(b.retries),
            format::percent(b.extra_load),
            format::ms(b.p95_ms),
            format::ms(a.p95_ms)
        ),
    }
}

fn budget((part, sidecar): (&Part, &Sidecar)) -> Balance {
    let faults = Experiment::known("b_storm").faults;
    Balance {
        pattern: "Budget",
        bought: format!(
            "{} requests at the backend for each of the client’s instead of {}; whatever fails, no more than {}",
            format::ratio(part.received_per_request()),
            format::ratio(faults.attempts_without_budget(sidecar.max_attempts)),
            format::ratio(sidecar.backend_received_max / number(part.requests.max(1)))
        ),
        cost: format!(
            "{} retries not made: {} succeeded",
            format::count(sidecar.retries_refused_by_budget),
            part.success()
        ),
    }
}

fn tuning((part, sidecar): (&Part, &Sidecar)) -> Balance {
    Balance {
        pattern: "More attempts",
        bought: format!("{} at {} errors", part.success(), format::percent(Experiment::known("b_tuned").faults.errors)),
        cost: format!(
            "{} more requests for the backend ({}); the budget would let it be {}",
            format::count(part.retries),
            format::percent(part.extra_load),
            format::percent(sidecar.backend_received_max / number(part.requests.max(1)) - 1.0)
        ),
    }
}

fn caution((part, sidecar): (&Part, &Sidecar)) -> Balance {
    Balance {
        pattern: "No repeated POST",
        bought: format!("{} of {} orders taken twice", part.repeated_ids, format::count(part.requests)),
        cost: format!(
            "{} succeeded: {} failures that a retry might have hidden went to the client",
            part.success(),
            format::count(sidecar.refused("not_idempotent"))
        ),
    }
}

fn breaker(direct: &Part, (c, sidecar): (&Part, &Sidecar)) -> Option<Balance> {
    let (alone, outage) = (direct.outage.as_ref()?, c.outage.as_ref()?);
    Some(Balance {
        pattern: "Breaker, backend dead",
        bought: format!(
            "{} connections tried at the dead backend instead of {}; a response within {} ms that says what is wrong and when to come back",
            format::count(sidecar.connects_refused),
            format::count(direct.errors.get("refused").copied().unwrap_or_default()),
            format::ms(outage.failed_while_open_p99_ms)
        ),
        cost: format!(
            "{} from the return to full success instead of {}, so {} failed instead of {}: a backend that refuses fails fast \
             without a breaker, too",
            format::ms_or_never(outage.recovered_after_ms),
            format::ms_or_never(alone.recovered_after_ms),
            c.failure(),
            direct.failure()
        ),
    })
}

fn redundancy(c: &Part, (three, sidecar): (&Part, &Sidecar)) -> Balance {
    Balance {
        pattern: "Two more backends",
        bought: format!("{} instead of {}: {} failed of {}", three.success(), c.success(), three.failed(), c.failed()),
        cost: format!(
            "two more backends, and {} retries to find the living ones; the breaker kept it at {} connections refused by the dead one",
            format::count(three.retries),
            format::count(sidecar.connects_refused)
        ),
    }
}

fn breaker_of_hang(direct: &Part, hang: &Part) -> Option<Balance> {
    let (alone, outage) = (direct.outage.as_ref()?, hang.outage.as_ref()?);
    Some(Balance {
        pattern: "Breaker, backend hangs",
        bought: format!(
            "{} of waiting in vain instead of {}; {} requests longer than a second instead of {}",
            format::seconds(outage.waited_in_vain_s),
            format::seconds(alone.waited_in_vain_s),
            format::count(outage.slow),
            format::count(alone.slow)
        ),
        cost: format!(
            "{} from the return to full success instead of {}, so {} failed instead of {}",
            format::ms_or_never(outage.recovered_after_ms),
            format::ms_or_never(alone.recovered_after_ms),
            hang.failure(),
            direct.failure()
        ),
    })
}
