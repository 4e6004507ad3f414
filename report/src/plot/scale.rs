//! Where a value lies on an axis, and which values get a tick.
//!
//! Pure; a place is a share of the axis from 0 to 1, and a value off the scale lies at its end.

/// Beyond this ratio of largest to smallest a linear scale would press the small ones flat onto the axis.
const LOGARITHMIC_FROM_RATIO: f64 = 40.0;

/// Up to so many factors of ten a logarithmic axis has room for the ticks 2 and 5.
const FINE_DECADES_MAX: f64 = 3.0;

/// The smallest latency a scale shows, ms: the grain of the measurement.
const LATENCY_MIN_MS: f64 = 0.001;

/// A scale and what it measures, with the unit: `latency, ms`.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What it measures, with the unit; plain text.
    pub label: String,
    /// How values are placed on it.
    pub scale: Scale,
}

impl Axis {
    /// Latencies in ms, on a scale that fits these.
    #[must_use]
    pub fn latency(values: impl Iterator<Item = f64>) -> Self {
        let scale = Scale::latency(values);
        let label = if matches!(scale, Scale::Log { .. }) { "latency, ms (logarithmic)" } else { "latency, ms" };
        Self { label: label.to_owned(), scale }
    }

    /// Seconds since the start, in minutes and seconds if there are many.
    #[must_use]
    pub fn time(from_s: f64, to_s: f64) -> Self {
        let long = to_s > MINUTES_FROM_S;
        let label = if long { "time since start, min:s" } else { "time since start, s" };
        Self { label: label.to_owned(), scale: Scale::Time { from: from_s, to: to_s.max(from_s + 1.0) } }
    }
}

/// From here on seconds are hard to read.
const MINUTES_FROM_S: f64 = 180.0;

/// How values are spread over an axis. Made by the functions below, which keep each from being empty.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// Equal steps have equal room.
    Linear {
        /// At the beginning.
        from: f64,
        /// At the end; greater.
        to: f64,
    },
    /// Evenly, with ticks as clocks have them; seconds.
    Time {
        /// At the beginning.
        from: f64,
        /// At the end; greater.
        to: f64,
    },
    /// Each factor of ten has the same room.
    Log {
        /// At the beginning; above 0.
        from: f64,
        /// At the end; greater.
        to: f64,
    },
    /// Quantiles from 0 to 1; each nine (90 %, 99 %, …) has the same room.
    Tail {
        /// How many nines there is room for.
        nines: f64,
    },
}

impl Scale {
    /// From 0 to `max` or a round number above.
    #[must_use]
    pub fn from_zero(max: f64) -> Self {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let step = nice_step(max / 4.0);
        Self::Linear { from: 0.0, to: (max / step).ceil() * step }
    }

    /// For latencies in ms: from zero, or logarithmic if they are far apart.
    fn latency(values: impl Iterator<Item = f64>) -> Self {
        let positive = values.map(|value| value.max(LATENCY_MIN_MS));
        let (min, max) = positive.fold((f64::INFINITY, 0.0_f64), |(min, max), value| (min.min(value), max.max(value)));
        if max / min > LOGARITHMIC_FROM_RATIO { Self::log(min, max) } else { Self::from_zero(max) }
    }

    /// From a round number at or below `min` to one at or above `max`, both above 0: round enough to have a tick.
    fn log(min: f64, max: f64) -> Self {
        if (max / min).log10() <= FINE_DECADES_MAX {
            Self::Log { from: round_down(min), to: nice_step(max) }
        } else {
            Self::Log { from: 10_f64.powf(min.log10().floor()), to: 10_f64.powf(max.log10().ceil()) }
        }
    }

    /// For quantiles of so many requests: as far out as so many can show.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "only its logarithm is used")]
    pub fn tail(requests: u64) -> Self {
        Self::Tail { nines: (requests as f64).log10().clamp(1.0, 7.0) }
    }

    /// Where the value lies, 0 to 1.
    #[must_use]
    pub fn place(&self, value: f64) -> f64 {
        let place = match *self {
            Self::Linear { from, to } | Self::Time { from, to } => (value - from) / (to - from),
            Self::Log { from, to } => (value.max(f64::MIN_POSITIVE) / from).log10() / (to / from).log10(),
            // The quantile 1, the maximum, is infinitely far out and lies at the end.
            Self::Tail { nines } => -(1.0 - value).max(f64::MIN_POSITIVE).log10() / nines,
        };
        place.clamp(0.0, 1.0)
    }

    /// Value and label of each tick, about so many.
    pub(super) fn ticks(&self, about: usize) -> Vec<(f64, String)> {
        let about = f64::from(u32::try_from(about).unwrap_or(u32::MAX)).max(1.0);
        match *self {
            Self::Linear { from, to } => {
                let step = nice_step((to - from) / about);
                multiples(from, to, step).map(|value| (value, plain(value, step))).collect()
            }
            Self::Time { from, to } => {
                let step = clock_step((to - from) / about);
                multiples(from, to, step).map(|value| (value, time(value, to, step))).collect()
            }
            Self::Log { from, to } => log_ticks(from, to),
            Self::Tail { nines } => tail_ticks(nines, about),
        }
    }
}

/// The multiples of `step` from `from` to `to`.
fn multiples(from: f64, to: f64, step: f64) -> impl Iterator<Item = f64> {
    // Half a thousandth of a step forgives the rounding of steps such as 0.1.
    let first = (from / step - 0.0005).ceil();
    (0_u16..).map(move |n| (first + f64::from(n)) * step).take_while(move |&value| value <= to + step * 0.0005)
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn nice_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factors = [1.0, 2.0, 5.0];
    factors.into_iter().map(|factor| factor * power).find(|nice| *nice >= step * 0.9999).unwrap_or(10.0 * power)
}

/// A step as on a clock, in seconds, not below `step`.
fn clock_step(step: f64) -> f64 {
    let steps = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0];
    if step < 1.0 {
        return nice_step(step);
    }
    steps.into_iter().find(|nice| *nice >= step).unwrap_or_else(|| (step / 3_600.0).ceil() * 3_600.0)
}

fn time(value: f64, to: f64, step: f64) -> String {
    if to > MINUTES_FROM_S {
        format!("{:.0}:{:02.0}", (value / 60.0).floor(), value % 60.0)
    } else {
        plain(value, step)
    }
}

/// With as many decimals as the step has.
fn plain(value: f64, step: f64) -> String {
    let decimals = (0..6).find(|&n| is_whole(step * 10_f64.powi(n))).unwrap_or(6);
    format!("{value:.*}", usize::try_from(decimals).unwrap_or_default())
}

fn is_whole(value: f64) -> bool {
    (value - value.round()).abs() < 1e-6
}

/// 1, 2, 5, 10, 20, … while there is room for them, else only powers of ten.
fn log_ticks(from: f64, to: f64) -> Vec<(f64, String)> {
    // The rounding of the ends may add a little.
    let fine = (to / from).log10() <= FINE_DECADES_MAX + 0.8;
    let factors: &[f64] = if fine { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let powers = multiples(from.log10().floor(), to.log10().ceil(), 1.0).map(|power| 10_f64.powf(power));
    let values = powers.flat_map(|power| factors.iter().map(move |factor| factor * power));
    let inside = values.filter(|value| *value >= from * 0.9999 && *value <= to * 1.0001);
    inside.map(|value| (value, plain(value, value))).collect()
}

fn tail_ticks(nines: f64, about: f64) -> Vec<(f64, String)> {
    let ticks = [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.999_9, "99.99 %"),
        (0.999_99, "99.999 %"),
        (0.999_999, "99.9999 %"),
    ];
    let scale = Scale::Tail { nines };
    // The labels are wide; the end belongs to the maximum.
    let gap = 0.8 / about;
    let mut free_from = 0.0;
    let mut kept = Vec::new();
    for (value, label) in ticks {
        let place = scale.place(value);
        if place >= free_from && place <= 1.0 - gap {
            kept.push((value, label.to_owned()));
            free_from = place + gap;
        }
    }
    kept.push((1.0, "max".to_owned()));
    kept
}

/// The next of 1, 2, 5 × a power of ten at or below.
fn round_down(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [5.0, 2.0].into_iter().map(|factor| factor * power).find(|nice| *nice <= value).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale, about: usize) -> String {
        scale.ticks(about).into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_numbers_with_the_decimals_they_need() {
        let check = |scale: Scale, expected: &str| assert_eq!(labels(&scale, 5), expected, "{scale:?}");
        check(Scale::from_zero(198.0), "0 50 100 150 200");
        check(Scale::from_zero(0.9), "0.0 0.2 0.4 0.6 0.8 1.0");
        check(Scale::from_zero(0.0), "0.0 0.2 0.4 0.6 0.8 1.0");
        check(Scale::Time { from: 0.0, to: 10.0 }, "0 2 4 6 8 10");
        check(Scale::Time { from: 0.0, to: 600.0 }, "0:00 2:00 4:00 6:00 8:00 10:00");
        check(Scale::Log { from: 0.1, to: 10_000.0 }, "0.1 1 10 100 1000 10000");
        check(Scale::Log { from: 0.5, to: 20.0 }, "0.5 1 2 5 10 20");
        check(Scale::tail(1_000), "0 % 90 % 99 % max");
        assert_eq!(labels(&Scale::tail(1_000), 11), "0 % 50 % 90 % 99 % max");
    }

    #[test]
    fn a_scale_is_logarithmic_only_when_values_are_far_apart() {
        let check = |values: &[f64], expected: Scale| assert_eq!(Scale::latency(values.iter().copied()), expected);
        check(&[1.0, 12.0], Scale::Linear { from: 0.0, to: 15.0 });
        check(&[0.3, 150.0], Scale::Log { from: 0.2, to: 200.0 });
        check(&[0.0, 1.0], Scale::Log { from: 0.001, to: 1.0 });
        check(&[0.3, 1_500.0], Scale::Log { from: 0.1, to: 10_000.0 });
        check(&[], Scale::Linear { from: 0.0, to: 1.0 });
    }

    #[test]
    fn each_nine_has_the_same_room_and_the_maximum_the_end() {
        let scale = Scale::tail(10_000);
        let check = |quantile: f64, expected: f64| {
            assert!((scale.place(quantile) - expected).abs() < 1e-9, "{quantile}");
        };
        check(0.0, 0.0);
        check(0.9, 0.25);
        check(0.99, 0.5);
        check(0.999, 0.75);
        check(1.0, 1.0);
    }

    #[test]
    fn a_value_off_the_scale_lies_at_its_end() {
        let scale = Scale::from_zero(10.0);
        assert_eq!((scale.place(-5.0), scale.place(99.0)), (0.0, 1.0));
    }
}
