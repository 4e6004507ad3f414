//! The faults this service can show, as someone asks for them: the JSON of `/faults`, and what can be wrong with it.
//!
//! Written faults and acting faults are two types. [`Faults`] may be nonsense; [`Plan`](crate::plan::Plan) can only be
//! made from faults that make sense, so the data path never meets a share of 1.5 or an empty list of statuses.
//!
//! Nothing here acts, and the only check made is of form; values are checked where the plan is made.

use serde::{Deserialize, Serialize};

/// The longest time a fault may be asked to take. Longer ones are typing errors: no client waits an hour.
pub const MS_MAX: u64 = 3_600_000;

/// The widest spread of a log-normal latency; beyond it the tail is nothing but the hour at which a draw is cut.
pub(crate) const SIGMA_MAX: f64 = 10.0;

/// Faults as asked for. Every key may be absent, which turns that fault off; an unknown key is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with one key per fault")]
pub struct Faults {
    /// The time every request takes.
    pub latency: Latency,
    /// A share of the requests takes longer still: the tail.
    pub slow: Slow,
    /// An HTTP error instead of the response.
    pub errors: Errors,
    /// The request is read and gets no response; the connection stays open.
    pub hang: Simple,
    /// The connection is reset before any byte of the response.
    pub reset_before: Simple,
    /// The connection is reset in the middle of the response's body.
    pub reset_during: Simple,
    /// Half of the announced body, then a clean end.
    pub truncate: Simple,
    /// The whole body, in small pieces.
    pub slow_body: SlowBody,
}

/// How long a request takes before its fate shows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Latency {
    /// No time at all. The braces make serde refuse unknown keys here too; beside a plain name it lets them pass.
    None {},
    /// The same for every request.
    Fixed {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Anything between two bounds, equally likely.
    Uniform {
        /// The shortest, in milliseconds.
        min_ms: u64,
        /// The longest, in milliseconds.
        max_ms: u64,
    },
    /// Most near the median, few far above it, as measured services tend to be. Cut at [`MS_MAX`].
    LogNormal {
        /// Half of the requests take less, in milliseconds.
        median_ms: u64,
        /// Standard deviation of the logarithm, 0 to 10.
        sigma: f64,
    },
}

impl Default for Latency {
    fn default() -> Self {
        Self::None {}
    }
}

/// The tail: this share of requests gets more latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with the keys share and by_ms")]
pub struct Slow {
    /// 0 to 1.
    pub share: f64,
    /// How much more, in milliseconds.
    pub by_ms: u64,
}

impl Default for Slow {
    fn default() -> Self {
        Self { share: 0.0, by_ms: 200 }
    }
}

/// HTTP errors instead of the message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with the keys share, statuses and retry_after")]
pub struct Errors {
    /// 0 to 1.
    pub share: f64,
    /// One of these, equally likely, each 400 to 599; a status named twice comes twice as often.
    pub statuses: Vec<u16>,
    /// `retry-after` of these responses: whole seconds or an HTTP-date; none leaves the header out.
    pub retry_after: Option<String>,
}

impl Default for Errors {
    fn default() -> Self {
        Self { share: 0.0, statuses: vec![500, 503], retry_after: None }
    }
}

/// A fault that needs nothing but its share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with the key share")]
pub struct Simple {
    /// 0 to 1.
    pub share: f64,
}

/// A body that takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with the keys share and over_ms")]
pub struct SlowBody {
    /// 0 to 1.
    pub share: f64,
    /// From the head to the last byte, in milliseconds.
    pub over_ms: u64,
}

impl Default for SlowBody {
    fn default() -> Self {
        Self { share: 0.0, over_ms: 1000 }
    }
}

/// Why faults were refused.
#[derive(Debug, thiserror::Error)]
pub enum FaultsError {
    /// Not the JSON of [`Faults`]: bad syntax, an unknown key, a wrong type. The message has line and column.
    #[error("faults: {0}")]
    Json(#[from] serde_json::Error),
    /// Well formed, but these values make no sense: all of them, not only the first.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Problem>),
}

/// One value that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A share is a part of all requests.
    #[error("{key}: {found} is not between 0 and 1")]
    Share {
        /// Where, as in `errors.share`.
        key: &'static str,
        /// The value as given.
        found: f64,
    },
    /// Every request has one fate, so together they cannot have more than all requests.
    #[error(
        "the shares of errors, hang, reset_before, reset_during, truncate and slow_body add up to {found}, more than 1"
    )]
    Sum {
        /// The sum of the six shares.
        found: f64,
    },
    /// Longer than [`MS_MAX`].
    #[error("{key}: {found} is more than {MS_MAX}, one hour")]
    Ms {
        /// Where, as in `slow.by_ms`.
        key: &'static str,
        /// The value as given, in milliseconds.
        found: u64,
    },
    /// Bounds the wrong way round.
    #[error("latency.min_ms: {min_ms} is more than max_ms, {max_ms}")]
    Bounds {
        /// The shortest, in milliseconds.
        min_ms: u64,
        /// The longest, in milliseconds.
        max_ms: u64,
    },
    /// A spread of the log-normal latency outside 0 to 10.
    #[error("latency.sigma: {0} is not between 0 and {SIGMA_MAX}")]
    Sigma(f64),
    /// An empty list of statuses.
    #[error("errors.statuses: empty, at least one status is needed")]
    NoStatus,
    /// A status that is no error of HTTP.
    #[error("errors.statuses: {0} is not between 400 and 599")]
    Status(u16),
    /// A `retry-after` that no client would understand.
    #[error("errors.retry_after: {0:?} is neither whole seconds nor an HTTP-date")]
    RetryAfter(String),
}

#[cfg(test)]
mod tests {
    use crate::plan::Plan;

    fn check(json: &str, expected: &str) {
        match Plan::from_json(json.as_bytes()) {
            Ok(_) => panic!("{json} was accepted"),
            Err(error) => assert!(error.to_string().contains(expected), "{json} gave: {error}"),
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_its_name_wherever_it_stands() {
        check(
            r#"{"error":{"share":0.1}}"#,
            "faults: unknown field `error`, expected one of `latency`, `slow`, `errors`",
        );
        check(r#"{"errors":{"shar":0.1}}"#, "unknown field `shar`, expected one of `share`, `statuses`, `retry_after`");
        check(r#"{"slow":{"by":1}}"#, "unknown field `by`, expected `share` or `by_ms`");
        check(r#"{"slow_body":{"ms":1}}"#, "unknown field `ms`, expected `share` or `over_ms` at line 1 column 18");
        for simple in ["hang", "reset_before", "reset_during", "truncate"] {
            check(&format!(r#"{{"{simple}":{{"by":1}}}}"#), "unknown field `by`, expected `share`");
        }
        check(r#"{"latency":{"kind":"fixed","ms":1,"by":2}}"#, "unknown field `by`, expected `ms`");
        check(r#"{"latency":{"kind":"none","by":2}}"#, "unknown field `by`");
    }

    #[test]
    fn a_bad_value_is_refused_with_its_place_and_what_is_allowed() {
        let shares = ["errors", "hang", "reset_before", "reset_during", "truncate", "slow_body", "slow"];
        for section in shares {
            for bad in ["1.5", "-0.1"] {
                let expected = format!("{section}.share: {bad} is not between 0 and 1");
                check(&format!(r#"{{"{section}":{{"share":{bad}}}}}"#), &expected);
            }
        }
        let rows = [
            (r#"{"slow":{"by_ms":3600001}}"#, "slow.by_ms: 3600001 is more than 3600000, one hour"),
            (r#"{"slow_body":{"over_ms":3600001}}"#, "slow_body.over_ms: 3600001 is more than 3600000"),
            (r#"{"latency":{"kind":"fixed","ms":3600001}}"#, "latency.ms: 3600001 is more than 3600000"),
            (r#"{"latency":{"kind":"fixed","ms":-1}}"#, "invalid value: integer `-1`, expected u64"),
            (r#"{"latency":{"kind":"fixed"}}"#, "missing field `ms`"),
            (r#"{"latency":{"kind":"normal"}}"#, "unknown variant `normal`, expected one of `none`, `fixed`"),
            (r#"{"latency":{"kind":"uniform","min_ms":5,"max_ms":4}}"#, "latency.min_ms: 5 is more than max_ms, 4"),
            (r#"{"latency":{"kind":"uniform","min_ms":5,"max_ms":3600001}}"#, "latency.max_ms: 3600001 is more"),
            (
                r#"{"latency":{"kind":"log_normal","median_ms":20,"sigma":11}}"#,
                "latency.sigma: 11 is not between 0 and 10",
            ),
            (
                r#"{"latency":{"kind":"log_normal","median_ms":3600001,"sigma":1}}"#,
                "latency.median_ms: 3600001 is more",
            ),
            (r#"{"errors":{"statuses":[]}}"#, "errors.statuses: empty, at least one status is needed"),
            (r#"{"errors":{"statuses":[500,399]}}"#, "errors.statuses: 399 is not between 400 and 599"),
            (r#"{"errors":{"statuses":[600]}}"#, "errors.statuses: 600 is not between 400 and 599"),
            (r#"{"errors":{"retry_after":"soon"}}"#, r#"errors.retry_after: "soon" is neither whole seconds"#),
            (r#"{"errors":{"retry_after":""}}"#, r#"errors.retry_after: "" is neither whole seconds"#),
            (r#"{"errors":{"share":"half"}}"#, r#"invalid type: string "half", expected f64 at line 1 column 25"#),
            (r#"{"hang":0.1}"#, "invalid type: floating point `0.1`, expected an object with the key share"),
            ("7", "faults: invalid type: integer `7`, expected an object with one key per fault"),
            ("{", "faults: EOF while parsing an object"),
        ];
        for (json, expected) in rows {
            check(json, expected);
        }
    }

    #[test]
    fn shares_that_add_up_to_more_than_one_are_refused() {
        check(
            r#"{"errors":{"share":0.5},"truncate":{"share":0.75}}"#,
            "truncate and slow_body add up to 1.25, more than 1",
        );
        Plan::from_json(br#"{"errors":{"share":0.7},"hang":{"share":0.1},"truncate":{"share":0.2}}"#)
            .expect("these add up to 1, if not in binary");
        Plan::from_json(br#"{"errors":{"share":1},"slow":{"share":1}}"#).expect("slow is no fate and adds nothing");
    }

    #[test]
    fn every_bad_value_is_named_in_one_response() {
        let json = r#"{"hang":{"share":2},"errors":{"statuses":[200]},"slow":{"share":-1}}"#;
        for expected in ["hang.share: 2", "errors.statuses: 200", "slow.share: -1"] {
            check(json, expected);
        }
    }

    #[test]
    fn retry_after_takes_seconds_or_a_date() {
        for text in ["1", "120", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            let json = format!(r#"{{"errors":{{"retry_after":"{text}"}}}}"#);
            Plan::from_json(json.as_bytes()).expect("this is one of the two forms");
        }
    }

    #[test]
    fn what_is_reported_can_be_put_back_and_has_every_key() {
        let json = serde_json::to_string(Plan::default().faults()).expect("faults serialise");
        assert_eq!(
            json,
            concat!(
                r#"{"latency":{"kind":"none"},"slow":{"share":0.0,"by_ms":200},"#,
                r#""errors":{"share":0.0,"statuses":[500,503],"retry_after":null},"hang":{"share":0.0},"#,
                r#""reset_before":{"share":0.0},"reset_during":{"share":0.0},"truncate":{"share":0.0},"#,
                r#""slow_body":{"share":0.0,"over_ms":1000}}"#
            )
        );
        let again = Plan::from_json(json.as_bytes()).expect("our own report is valid");
        assert_eq!(again.faults(), Plan::default().faults());
    }
}
