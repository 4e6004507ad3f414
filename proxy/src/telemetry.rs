//! Metrics, log lines, and the events that both come from.
//!
//! `events` counts and logs, `metrics` declares the families, `labels` has the label values that are not the policies' own, and `log` writes the lines.

pub mod events;
pub mod labels;
pub mod log;
pub mod metrics;
