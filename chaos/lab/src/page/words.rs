//! The page's sentences. What a part was set up to do comes from its experiment, everything else from what was measured.

use report::format;
use report::html::escape;

use crate::experiment::{Experiment, HANG_ATTEMPT, TAIL_MS};
use crate::results::{Part, Results, number};

/// How to read the page; the same for every run.
pub(super) const READING: &str = "\
<details>
<summary>How this was measured</summary>
<p>Backend, client and sidecar are three processes on one machine. The client sends at a constant rate, whatever the responses (open loop), \
and a request’s latency counts from the moment it was <em>due</em>. It never sends a request twice itself. Latencies are of all requests, \
failed ones too.</p>
<p>The backend draws the fate of the n-th request it gets from a seeded generator, so that parts a and b meet the same faults. \
What it has received it counts itself; retries, refusals and the breaker’s moves are the sidecar’s own metrics and log lines.</p>
<p>The raw files are beside this page: per part the client’s <code>.json</code> and <code>.csv</code>, the sidecar’s \
<code>.toml</code> and <code>.proxy.log</code>.</p>
</details>
";

pub(super) fn baseline(part: &Part) -> String {
    let faults = Experiment::known("a").faults;
    paragraphs(&[
        format!(
            "The client sends {} requests a second straight to a backend that fails {} of them with 500 or 503 and takes {TAIL_MS} ms longer than usual \
             for {}.",
            part.rate,
            format::percent(faults.errors),
            format::percent(faults.tail)
        ),
        format!(
            "<b>{}</b> succeeded: every failure of the backend is a failure of the client. Nothing is retried, so the backend received {} \
             requests for {}.",
            part.success(),
            format::count(part.backend_received),
            format::count(part.requests)
        ),
    ])
}

pub(super) fn sidecar(part: &Part, baseline: Option<&Part>) -> String {
    let Some(sidecar) = &part.sidecar else { return String::new() };
    let errors = Experiment::known("b").faults.errors;
    let attempts = sidecar.max_attempts;
    let all_fail = errors.powi(i32::try_from(attempts).unwrap_or(i32::MAX));
    let slower = baseline.map_or_else(String::new, |baseline| {
        format!(
            " The median went from {} to {} ms (the way through the sidecar), p95 from {} to {} ms: a request that fails at first waits for a back-off \
             and a second response.",
            format::ms(baseline.p50_ms),
            format::ms(part.p50_ms),
            format::ms(baseline.p95_ms),
            format::ms(part.p95_ms)
        )
    });
    paragraphs(&[
        format!(
            "The same load and the same faults, now through the sidecar with its defaults: up to {attempts} attempts, as long as the budget \
             allows them. If {} of the attempts fail, {attempts} in a row fail in {} of the cases.",
            format::percent(errors),
            format::percent(all_fail)
        ),
        format!(
            "<b>{}</b> succeeded. It cost {} retries, {} more requests for the backend.{slower}",
            part.success(),
            format::count(part.retries),
            format::percent(part.extra_load)
        ),
    ])
}

pub(super) fn storm(part: &Part) -> String {
    let Some(sidecar) = &part.sidecar else { return String::new() };
    let faults = Experiment::known("b_storm").faults;
    let budget = &sidecar.budget;
    let from_ratio = budget.ratio * number(part.requests);
    let from_floor = budget.floor_per_second * part.elapsed_s;
    let called_for = part.retries + sidecar.retries_refused_by_budget;
    paragraphs(&[
        format!(
            "{} of the responses are errors now, still with defaults. Retrying them all would be {} attempts for each request, and {} if the \
             backend were dead: load that a backend in trouble can least bear. The budget is there to stop that.",
            format::percent(faults.errors),
            format::ratio(faults.attempts_without_budget(sidecar.max_attempts)),
            sidecar.max_attempts
        ),
        format!(
            "Of {} retries called for, {} were made and {} were <b>refused because the budget was exhausted</b>. The arithmetic: \
             {} × {} requests are {:.0} extra attempts, the floor of {}/s over {:.1} s gives {:.0} more, {:.0} in all.",
            format::count(called_for),
            format::count(part.retries),
            format::count(sidecar.retries_refused_by_budget),
            budget.ratio,
            format::count(part.requests),
            from_ratio,
            budget.floor_per_second,
            part.elapsed_s,
            from_floor,
            from_ratio + from_floor
        ),
        format!(
            "The backend received {} requests for each of the client’s; {} succeeded instead of {}.",
            format::ratio(part.received_per_request()),
            part.success(),
            format::percent(1.0 - faults.errors)
        ),
    ])
}

pub(super) fn tuned(part: &Part) -> String {
    let Some(sidecar) = &part.sidecar else { return String::new() };
    let errors = Experiment::known("b_tuned").faults.errors;
    let attempts = sidecar.max_attempts;
    paragraphs(&[
        format!(
            "If your backend has headroom, allow more: here {attempts} attempts and a budget of {} × the requests. \
             {attempts} in a row fail in {} of the cases.",
            sidecar.budget.ratio,
            format::percent(errors.powi(i32::try_from(attempts).unwrap_or(i32::MAX)))
        ),
        format!(
            "<b>{}</b> succeeded at {} errors. The cost: the backend received {} requests for each of the client’s, and 99 % of the \
             responses took up to {} ms.",
            part.success(),
            format::percent(errors),
            format::ratio(part.received_per_request()),
            format::ms(part.p99_ms)
        ),
    ])
}

pub(super) fn post(part: &Part) -> String {
    let Some(sidecar) = &part.sidecar else { return String::new() };
    let faults = Experiment::known("b_post").faults;
    paragraphs(&[
        format!(
            "A POST may be an order. If {} of the responses are errors and {} of the connections break before the response, \
             nobody but the backend knows whether the order was taken, and a second one might be a second parcel.",
            format::percent(faults.errors),
            format::percent(faults.resets)
        ),
        format!(
            "So the sidecar repeats none that may have been received: {} requests for {} reached the backend, \
             <b>{} of them twice</b>. Instead the client saw what happened: {}. {} times a retry was called for and not made because the \
             request was not repeatable; the response’s <code>proxy-status</code> says so. A connection that breaks before the response becomes a 502.",
            format::count(part.backend_received),
            format::count(part.requests),
            part.repeated_ids,
            outcomes(part),
            format::count(sidecar.refused("not_idempotent"))
        ),
    ])
}

pub(super) fn outage_straight(part: &Part, _: &Results) -> String {
    let Some(outage) = &part.outage else { return String::new() };
    paragraphs(&[format!(
        "The backend is killed with SIGKILL {:.1} s into the load and listens again at {:.1} s. Without a sidecar every request in \
         between is refused by the kernel, at once because nothing listens: {} failed ({}). {} after the return all succeeded again.",
        outage.killed_at_s,
        outage.returned_at_s,
        format::count(part.failed()),
        part.failure(),
        format::ms_or_never(outage.recovered_after_ms)
    )])
}

pub(super) fn outage(part: &Part, _: &Results) -> String {
    let (Some(outage), Some(sidecar)) = (&part.outage, &part.sidecar) else { return String::new() };
    let openings = sidecar.breaker.transitions.iter().filter(|moved| moved.to == "open").count();
    paragraphs(&[
        format!(
            "The same kill behind the sidecar. {} after it the breaker opened: from then on the client got 503 at once, \
             with the reason and a <code>retry-after</code> (99 % of {} such responses within {} ms), and the backend’s address was left alone but \
             for one probe at the end of each open time.",
            format::ms_or_never(outage.detected_after_ms),
            format::count(outage.failed_while_open),
            format::ms(outage.failed_while_open_p99_ms)
        ),
        format!(
            "Each failed probe doubles the open time up to its cap; the breaker opened {openings} times, {:.1} s in all. After the return it takes \
             the next probe to notice: the first success came after {}, lasting success after {}. {} requests failed ({}).",
            sidecar.breaker.open_s,
            format::ms_or_never(outage.first_success_after_ms),
            format::ms_or_never(outage.recovered_after_ms),
            format::count(part.failed()),
            part.failure()
        ),
    ])
}

pub(super) fn three(part: &Part, results: &Results) -> String {
    let (Some(outage), Some(sidecar)) = (&part.outage, &part.sidecar) else { return String::new() };
    let alone = instead(results.part("c").map(|alone| format::count(alone.failed())));
    paragraphs(&[
        format!(
            "Three backends now, the same kill of one of them, and nothing else changed. A request that meets the dead one finds its connection \
             refused or broken, and the retry goes to one of the other two. {} after the kill the breaker of that one address opened, and \
             from then on only probes went there: {} connections were refused in all.",
            format::ms_or_never(outage.detected_after_ms),
            format::count(sidecar.connects_refused)
        ),
        format!(
            "<b>{}</b> succeeded: {} requests failed{alone}, for {} retries. Where there is only one backend, a breaker can merely fail faster; \
             with somewhere else to go, breaker and retries hide the outage.",
            part.success(),
            format::count(part.failed()),
            format::count(part.retries)
        ),
    ])
}

pub(super) fn hang_straight(part: &Part, _: &Results) -> String {
    let Some(outage) = &part.outage else { return String::new() };
    paragraphs(&[format!(
        "Worse than a dead backend is one that hangs: from {:.1} s to {:.1} s it takes requests and responds to none of them. \
         Nothing refuses them, so each waits for the client’s own timeout, {} s here and often half a minute elsewhere. Meanwhile it holds a connection \
         and whatever else the client has reserved for it. {} requests failed ({}), {} took longer than a second, and all failed requests together \
         <b>waited {} in vain</b>.",
        outage.killed_at_s,
        outage.returned_at_s,
        Experiment::known("c_hang_direct").timeout.as_secs(),
        format::count(part.failed()),
        part.failure(),
        format::count(outage.slow),
        format::seconds(outage.waited_in_vain_s)
    )])
}

pub(super) fn hang(part: &Part, results: &Results) -> String {
    let (Some(outage), Some(sidecar)) = (&part.outage, &part.sidecar) else { return String::new() };
    let straight = results.part("c_hang_direct");
    let waits = straight.and_then(|straight| straight.outage.as_ref());
    let openings = sidecar.breaker.transitions.iter().filter(|moved| moved.to == "open").count();
    let down_s = outage.returned_at_s - outage.killed_at_s;
    paragraphs(&[
        format!(
            "The same hang behind a sidecar that gives an attempt {} ms. Timeouts in a row opened the breaker {} after the hang had \
             begun; from then on {} requests got 503 at once (99 % of them within {} ms), and only a probe waited now and then. The \
             breakers of endpoint and upstream opened {openings} times in all.",
            HANG_ATTEMPT.as_millis(),
            format::ms_or_never(outage.detected_after_ms),
            format::count(outage.failed_while_open),
            format::ms(outage.failed_while_open_p99_ms)
        ),
        format!(
            "Failed requests <b>waited {} in vain</b>{}, and {} requests took longer than a second{}. The timeout alone, without a breaker, \
             would have left {} or more. This is where a breaker helps most: requests that would fail do so at once, and tie up neither threads nor \
             connections. The price is the time until a probe notices the return: all succeeded again {} after it, and {} requests failed ({}){}.",
            format::seconds(outage.waited_in_vain_s),
            instead(waits.map(|straight| format::seconds(straight.waited_in_vain_s))),
            format::count(outage.slow),
            instead(waits.map(|straight| format::count(straight.slow))),
            format::seconds(part.rate * down_s * HANG_ATTEMPT.as_secs_f64()),
            format::ms_or_never(outage.recovered_after_ms),
            format::count(part.failed()),
            part.failure(),
            instead(straight.map(|straight| format::count(straight.failed())))
        ),
    ])
}

/// A number is not parted from its unit at the end of a line.
fn paragraphs(texts: &[String]) -> String {
    let whole = |text: &String| text.replace(" %", "\u{a0}%").replace(" ms", "\u{a0}ms");
    texts.iter().map(|text| format!("<p>{}</p>\n", whole(text))).collect()
}

/// What it was without, if that was measured.
fn instead(value: Option<String>) -> String {
    value.map_or_else(String::new, |value| format!(" instead of {value}"))
}

/// `200 × 1,674, 500 × 140`
fn outcomes(part: &Part) -> String {
    let statuses = part.statuses.iter().map(|(status, count)| format!("{status} × {}", format::count(*count)));
    let errors = part.errors.iter().map(|(error, count)| format!("{} × {}", escape(error), format::count(*count)));
    statuses.chain(errors).collect::<Vec<_>>().join(", ")
}
