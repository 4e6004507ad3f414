//! What people and machines get to know: metrics, log lines, and the events that both come from.
//!
//! `events` is the one place where something is counted or logged, `metrics` declares the families, `labels` has the words that are not the policies' own,
//! `log` is where lines go.

pub mod events;
pub mod labels;
pub mod log;
pub mod metrics;
