//! The proxy's log lines, and the breaker's timeline in them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock;

/// One line of the JSON log.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// When it was written.
    pub unix_ms: f64,
    /// Constant for each kind of event.
    pub message: String,
    fields: Map<String, Value>,
}

impl Line {
    /// Reads one line; `None` if it is no line of a JSON log.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return None };
        let moment = humantime::parse_rfc3339(fields.get("timestamp")?.as_str()?).ok()?;
        let message = fields.get("message")?.as_str()?.to_owned();
        Some(Self { unix_ms: clock::unix_ms_of(moment), message, fields })
    }

    /// A field that is a text; empty if there is none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field that is a number.
    #[must_use]
    pub fn number(&self, field: &str) -> Option<f64> {
        self.fields.get(field)?.as_f64()
    }
}

/// One change of a breaker's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Seconds since the start of the load.
    pub t_s: f64,
    /// `endpoint`, `upstream` or `route`.
    pub scope: String,
    /// Of an endpoint's breaker; else empty.
    pub endpoint: String,
    /// `closed`, `open` or `half_open`.
    pub from: String,
    /// The state after the change: `closed`, `open` or `half_open`.
    pub to: String,
    /// The rule that caused it, such as `consecutive_failures`.
    pub reason: String,
    /// How long it stays open, in ms; `None` unless it opened.
    pub open_ms: Option<f64>,
}

/// The changes of all breakers, in order, by the time since the load began.
#[must_use]
pub fn transitions(log: &[Line], load_began_unix_ms: f64) -> Vec<Transition> {
    let moved = log.iter().filter(|line| line.message.starts_with("breaker "));
    let transition = |line: &Line| Transition {
        t_s: (line.unix_ms - load_began_unix_ms) / 1_000.0,
        scope: line.text("scope").to_owned(),
        endpoint: line.text("endpoint").to_owned(),
        from: line.text("from").to_owned(),
        to: line.text("to").to_owned(),
        reason: line.text("reason").to_owned(),
        open_ms: line.number("open_ms"),
    };
    moved.map(transition).collect()
}

/// From when to when any breaker was in `state`, in seconds since the start of the load; what overlaps is one.
#[must_use]
pub fn spans(transitions: &[Transition], state: &str, until_s: f64) -> Vec<(f64, f64)> {
    let mut spans: Vec<(f64, f64)> = Vec::new();
    for (index, entered) in transitions.iter().enumerate().filter(|(_, transition)| transition.to == state) {
        let is_same = |other: &&Transition| (&other.scope, &other.endpoint) == (&entered.scope, &entered.endpoint);
        let left_s = transitions[index + 1..].iter().find(is_same).map_or(until_s, |left| left.t_s);
        match spans.last_mut() {
            Some(last) if entered.t_s <= last.1 => last.1 = last.1.max(left_s),
            _ => spans.push((entered.t_s, left_s)),
        }
    }
    spans
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn transition(t_s: f64, scope: &str, from: &str, to: &str, open_ms: Option<f64>) -> Transition {
        let own = |text: &str| text.to_owned();
        Transition {
            t_s,
            scope: own(scope),
            endpoint: String::new(),
            from: own(from),
            to: own(to),
            reason: own("r"),
            open_ms,
        }
    }

    #[test]
    fn a_move_is_read_with_its_time_since_the_load_began() {
        let text = r#"{"timestamp":"1970-01-01T00:01:41.500Z","level":"WARN","message":"breaker opened","upstream":"backend","scope":"endpoint","route":"","endpoint":"127.0.0.1:1","from":"closed","to":"open","reason":"consecutive_failures","open_ms":912.5}"#;
        let log: Vec<_> = [text, "noise", "{}"].into_iter().filter_map(Line::parse).collect();
        let moved = transitions(&log, 100_000.0);
        assert_eq!(moved.len(), 1);
        assert_eq!((moved[0].t_s, moved[0].open_ms), (1.5, Some(912.5)));
        assert_eq!((moved[0].scope.as_str(), moved[0].to.as_str()), ("endpoint", "open"));
    }

    #[test]
    fn spans_end_when_the_same_breaker_moves_on_and_overlapping_ones_are_one() {
        let moved = [
            transition(1.0, "endpoint", "closed", "open", Some(1_000.0)),
            transition(1.5, "upstream", "closed", "open", Some(1_000.0)),
            transition(2.0, "endpoint", "open", "half_open", None),
            transition(2.5, "upstream", "open", "half_open", None),
            transition(4.0, "endpoint", "half_open", "open", Some(2_000.0)),
        ];
        assert_eq!(spans(&moved, "open", 9.0), [(1.0, 2.5), (4.0, 9.0)]);
        assert_eq!(spans(&moved, "half_open", 9.0), [(2.0, 9.0)]);
        assert_eq!(spans(&[], "open", 9.0), []);
    }
}
