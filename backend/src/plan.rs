//! Which request meets which fault: the checked faults, and the draw.
//!
//! A draw takes the same number of values from the generator whatever the plan says. The n-th request therefore meets
//! the same faults for a given seed, and changing one fault does not reshuffle the others.
//!
//! Pure: no clock, no sockets, no generator of its own. `data` and `cut` show a fate on the wire.

use std::f64::consts::TAU;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use rand::{Rng, RngExt};

use crate::faults::{Faults, FaultsError, Latency, MS_MAX, Problem, SIGMA_MAX};

/// Shares are written in decimals, which do not add up exactly in binary: ten times 0.1 must still count as 1.
const SUM_SLACK: f64 = 1e-9;

/// What one request meets.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// How long it takes before the fate shows.
    pub delay: Duration,
    /// What happens then.
    pub fate: Fate,
}

/// The one thing that happens to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// The message, whole and at once.
    Answered,
    /// An HTTP error.
    Error {
        /// 400 to 599.
        status: StatusCode,
        /// The header of that name.
        retry_after: Option<HeaderValue>,
    },
    /// Silence on an open connection.
    Hang,
    /// A reset before any byte of the response.
    ResetBefore,
    /// A reset in the middle of the body.
    ResetDuring,
    /// A clean end in the middle of the body.
    Truncate,
    /// The whole message, slowly.
    SlowBody {
        /// From the head to the last byte.
        over: Duration,
    },
}

/// The name of a [`Fate`] without its details: what is drawn, and what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is described at the variant of `Fate` that bears its name")]
pub enum FateKind {
    Answered,
    Error,
    Hang,
    ResetBefore,
    ResetDuring,
    Truncate,
    SlowBody,
}

impl FateKind {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 7] =
        [Self::Answered, Self::Error, Self::Hang, Self::ResetBefore, Self::ResetDuring, Self::Truncate, Self::SlowBody];

    /// The name in `by_fate` of `GET /received`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Error => "error",
            Self::Hang => "hang",
            Self::ResetBefore => "reset_before",
            Self::ResetDuring => "reset_during",
            Self::Truncate => "truncate",
            Self::SlowBody => "slow_body",
        }
    }
}

impl Fate {
    /// Its name without the details.
    pub fn kind(&self) -> FateKind {
        match self {
            Self::Answered => FateKind::Answered,
            Self::Error { .. } => FateKind::Error,
            Self::Hang => FateKind::Hang,
            Self::ResetBefore => FateKind::ResetBefore,
            Self::ResetDuring => FateKind::ResetDuring,
            Self::Truncate => FateKind::Truncate,
            Self::SlowBody { .. } => FateKind::SlowBody,
        }
    }
}

/// Faults that make sense, ready to be drawn from.
#[derive(Clone, Debug)]
pub struct Plan {
    faults: Faults,
    /// In the order of the contract; each bound is the sum of the shares up to and with its own.
    bounds: [(f64, FateKind); 6],
    statuses: Vec<StatusCode>,
    retry_after: Option<HeaderValue>,
}

impl Default for Plan {
    fn default() -> Self {
        Self::new(Faults::default()).expect("faults that are all off are valid")
    }
}

impl Plan {
    /// Checks the faults; the error names every value that is wrong.
    pub fn new(faults: Faults) -> Result<Self, FaultsError> {
        let mut problems = Vec::new();
        check_latency(&faults, &mut problems);
        let bounds = check_shares(&faults, &mut problems);
        let statuses = check_statuses(&faults.errors.statuses, &mut problems);
        let retry_after = check_retry_after(faults.errors.retry_after.as_deref(), &mut problems);
        if problems.is_empty() {
            Ok(Self { faults, bounds, statuses, retry_after })
        } else {
            Err(FaultsError::Invalid(problems))
        }
    }

    /// Reads the JSON of [`Faults`] and checks it.
    pub fn from_json(json: &[u8]) -> Result<Self, FaultsError> {
        Self::new(serde_json::from_slice(json)?)
    }

    /// The faults it was made from, defaults filled in.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What the next request meets. Takes five values from the generator, always.
    pub fn draw(&self, rng: &mut impl Rng) -> Draw {
        let [fate, status, slow, latency_a, latency_b]: [f64; 5] = rng.random();
        let base = self.faults.latency.at(latency_a, latency_b);
        let tail =
            if slow < self.faults.slow.share { Duration::from_millis(self.faults.slow.by_ms) } else { Duration::ZERO };
        Draw { delay: base + tail, fate: self.fate_at(fate, status) }
    }

    fn fate_at(&self, fate: f64, status: f64) -> Fate {
        let kind = self.bounds.iter().find(|(bound, _)| fate < *bound).map_or(FateKind::Answered, |(_, kind)| *kind);
        match kind {
            FateKind::Answered => Fate::Answered,
            FateKind::Error => {
                // `status` is below 1, so the product is below the length and the cast rounds down to an index.
                let index = (status * self.statuses.len() as f64) as usize;
                Fate::Error { status: self.statuses[index], retry_after: self.retry_after.clone() }
            }
            FateKind::Hang => Fate::Hang,
            FateKind::ResetBefore => Fate::ResetBefore,
            FateKind::ResetDuring => Fate::ResetDuring,
            FateKind::Truncate => Fate::Truncate,
            FateKind::SlowBody => Fate::SlowBody { over: Duration::from_millis(self.faults.slow_body.over_ms) },
        }
    }
}

impl Latency {
    /// The latency at two values in `[0, 1)`. The log-normal needs both for one normal value (Box and Muller, 1958).
    fn at(self, a: f64, b: f64) -> Duration {
        let ms = match self {
            Self::None {} => 0.0,
            Self::Fixed { ms } => ms as f64,
            Self::Uniform { min_ms, max_ms } => min_ms as f64 + a * (max_ms - min_ms) as f64,
            Self::LogNormal { median_ms, sigma } => {
                // 1 - a is never 0, whose logarithm would be no number.
                let normal = (-2.0 * (1.0 - a).ln()).sqrt() * (TAU * b).cos();
                median_ms as f64 * (sigma * normal).exp()
            }
        };
        Duration::from_secs_f64(ms.min(MS_MAX as f64) / 1000.0)
    }
}

fn check_latency(faults: &Faults, problems: &mut Vec<Problem>) {
    let mut check_ms = |key, found| {
        if found > MS_MAX {
            problems.push(Problem::Ms { key, found });
        }
    };
    check_ms("slow.by_ms", faults.slow.by_ms);
    check_ms("slow_body.over_ms", faults.slow_body.over_ms);
    match faults.latency {
        Latency::None {} => {}
        Latency::Fixed { ms } => check_ms("latency.ms", ms),
        Latency::Uniform { min_ms, max_ms } => {
            check_ms("latency.max_ms", max_ms);
            if min_ms > max_ms {
                problems.push(Problem::Bounds { min_ms, max_ms });
            }
        }
        Latency::LogNormal { median_ms, sigma } => {
            check_ms("latency.median_ms", median_ms);
            if !(0.0..=SIGMA_MAX).contains(&sigma) {
                problems.push(Problem::Sigma(sigma));
            }
        }
    }
}

fn check_shares(faults: &Faults, problems: &mut Vec<Problem>) -> [(f64, FateKind); 6] {
    let mut check = |key, found: f64| {
        if !(0.0..=1.0).contains(&found) {
            problems.push(Problem::Share { key, found });
        }
    };
    check("slow.share", faults.slow.share);
    let mut sum = 0.0;
    let bounds = [
        ("errors.share", faults.errors.share, FateKind::Error),
        ("hang.share", faults.hang.share, FateKind::Hang),
        ("reset_before.share", faults.reset_before.share, FateKind::ResetBefore),
        ("reset_during.share", faults.reset_during.share, FateKind::ResetDuring),
        ("truncate.share", faults.truncate.share, FateKind::Truncate),
        ("slow_body.share", faults.slow_body.share, FateKind::SlowBody),
    ]
    .map(|(key, share, kind)| {
        check(key, share);
        sum += share;
        (sum, kind)
    });
    let each_is_share = !problems.iter().any(|problem| matches!(problem, Problem::Share { .. }));
    if each_is_share && sum > 1.0 + SUM_SLACK {
        problems.push(Problem::Sum { found: sum });
    }
    bounds
}

fn check_statuses(codes: &[u16], problems: &mut Vec<Problem>) -> Vec<StatusCode> {
    if codes.is_empty() {
        problems.push(Problem::NoStatus);
    }
    let mut statuses = Vec::with_capacity(codes.len());
    for &code in codes {
        match StatusCode::from_u16(code) {
            Ok(status) if status.is_client_error() || status.is_server_error() => statuses.push(status),
            _ => problems.push(Problem::Status(code)),
        }
    }
    statuses
}

fn check_retry_after(text: Option<&str>, problems: &mut Vec<Problem>) -> Option<HeaderValue> {
    let text = text?;
    let is_seconds = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_date = httpdate::parse_http_date(text).is_ok();
    match HeaderValue::from_str(text) {
        Ok(value) if is_seconds || is_date => Some(value),
        _ => {
            problems.push(Problem::RetryAfter(text.to_owned()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    use super::*;

    const DRAWS: usize = 100_000;

    fn draws(json: &str, seed: u64) -> Vec<Draw> {
        let plan = Plan::from_json(json.as_bytes()).expect("the test's faults are valid");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        (0..DRAWS).map(|_| plan.draw(&mut rng)).collect()
    }

    fn share(draws: &[Draw], is_meant: impl Fn(&Draw) -> bool) -> f64 {
        draws.iter().filter(|draw| is_meant(draw)).count() as f64 / draws.len() as f64
    }

    #[track_caller]
    fn assert_near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 0.01, "{found} is not within 1 % of {wanted}");
    }

    const ALL: &str = r#"{"latency":{"kind":"uniform","min_ms":10,"max_ms":20}, "slow":{"share":0.3,"by_ms":100},
        "errors":{"share":0.15,"statuses":[500,503,429],"retry_after":"1"}, "hang":{"share":0.05},
        "reset_before":{"share":0.1}, "reset_during":{"share":0.12}, "truncate":{"share":0.08},
        "slow_body":{"share":0.2,"over_ms":70}}"#;

    #[test]
    fn the_same_seed_gives_the_same_fates_and_another_seed_others() {
        assert_eq!(draws(ALL, 7), draws(ALL, 7));
        assert_ne!(draws(ALL, 7), draws(ALL, 8));
    }

    /// Guards the algorithm: a report of last year names a seed, and the seed must still mean the same.
    #[test]
    fn the_fates_of_seed_one_never_change() {
        let first: Vec<_> = draws(ALL, 1)[..12].iter().map(|draw| draw.fate.kind().name()).collect();
        let expected = "answered slow_body answered hang reset_before slow_body \
            slow_body reset_during truncate slow_body answered truncate";
        assert_eq!(first.join(" "), expected);
    }

    #[test]
    fn every_share_is_met_within_one_percent() {
        let draws = draws(ALL, 1);
        let wanted = [0.3, 0.15, 0.05, 0.1, 0.12, 0.08, 0.2];
        for (kind, wanted) in FateKind::ALL.into_iter().zip(wanted) {
            assert_near(share(&draws, |draw| draw.fate.kind() == kind), wanted);
        }
        assert_near(share(&draws, |draw| draw.delay >= Duration::from_millis(100)), 0.3);
        for code in [500, 503, 429] {
            let is_meant = |draw: &Draw| matches!(draw.fate, Fate::Error { status, .. } if status == code);
            assert_near(share(&draws, is_meant), 0.05);
        }
    }

    #[test]
    fn one_more_fault_does_not_reshuffle_the_others() {
        let before = draws(r#"{"errors":{"share":0.2}}"#, 3);
        let after = draws(
            r#"{"errors":{"share":0.2},"hang":{"share":0.2},"slow":{"share":0.5},"latency":{"kind":"fixed","ms":9}}"#,
            3,
        );
        let is_error = |draw: &Draw| draw.fate.kind() == FateKind::Error;
        assert!(before.iter().map(is_error).eq(after.iter().map(is_error)));
    }

    #[test]
    fn a_share_of_zero_never_happens_and_a_share_of_one_always() {
        assert_eq!(share(&draws("{}", 1), |draw| draw.fate == Fate::Answered && draw.delay.is_zero()), 1.0);
        let always = draws(r#"{"truncate":{"share":1},"slow":{"share":1,"by_ms":5}}"#, 1);
        assert_eq!(share(&always, |draw| draw.fate == Fate::Truncate && draw.delay == Duration::from_millis(5)), 1.0);
    }

    #[test]
    fn an_error_carries_its_retry_after_and_a_slow_body_its_time() {
        for draw in draws(ALL, 1) {
            match draw.fate {
                Fate::Error { retry_after, .. } => assert_eq!(retry_after, Some(HeaderValue::from_static("1"))),
                Fate::SlowBody { over } => assert_eq!(over, Duration::from_millis(70)),
                _ => {}
            }
        }
    }

    #[test]
    fn latencies_have_the_form_they_were_asked_for() {
        let ms = |json: &str| -> Vec<f64> {
            let mut ms: Vec<_> = draws(json, 1).iter().map(|draw| draw.delay.as_secs_f64() * 1000.0).collect();
            ms.sort_by(f64::total_cmp);
            ms
        };
        let fixed = ms(r#"{"latency":{"kind":"fixed","ms":20}}"#);
        assert_eq!((fixed[0], fixed[DRAWS - 1]), (20.0, 20.0));

        let uniform = ms(r#"{"latency":{"kind":"uniform","min_ms":5,"max_ms":50}}"#);
        assert!(uniform[0] >= 5.0 && uniform[DRAWS - 1] < 50.0);
        assert!((uniform[DRAWS / 2] - 27.5).abs() < 0.5);

        // One standard deviation above the median stands the quantile 0.8413.
        let log_normal = ms(r#"{"latency":{"kind":"log_normal","median_ms":20,"sigma":0.5}}"#);
        assert!((log_normal[DRAWS / 2] - 20.0).abs() < 0.3);
        assert!((log_normal[84_134] - 20.0 * 0.5_f64.exp()).abs() < 0.6);

        let cut = ms(r#"{"latency":{"kind":"log_normal","median_ms":3600000,"sigma":10}}"#);
        assert_eq!(cut[DRAWS - 1], MS_MAX as f64);
    }
}
