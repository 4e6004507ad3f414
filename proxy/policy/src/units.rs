//! Units that cannot hold a wrong value: ratios, and the time since a fixed origin.

use std::fmt;
use std::time::{Duration, Instant};

/// A share of something, exact to one part in a million, from 0 to [`Ratio::MAX`].
///
/// It is an integer and not a float, so that a budget of 20 % is still 20 % after ten million requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(u32);

impl Ratio {
    /// 0.0.
    pub const ZERO: Ratio = Ratio(0);
    /// 1.0.
    pub const ONE: Ratio = Ratio(Self::SCALE);
    /// The largest ratio: 1000.0.
    pub const MAX: Ratio = Ratio(1000 * Self::SCALE);
    const SCALE: u32 = 1_000_000;

    /// `parts` per million; `None` above [`Ratio::MAX`].
    pub const fn from_ppm(parts: u32) -> Option<Ratio> {
        if parts <= Self::MAX.0 { Some(Ratio(parts)) } else { None }
    }

    /// The nearest ratio to `value`; `None` if it is negative, not finite, or above [`Ratio::MAX`].
    pub fn from_f64(value: f64) -> Option<Ratio> {
        let parts = (value * f64::from(Self::SCALE)).round();
        // The range check also refuses NaN, so the cast cannot lose anything.
        (0.0..=f64::from(Self::MAX.0)).contains(&parts).then_some(Ratio(parts as u32))
    }

    /// Parts per million.
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// The ratio as a float, for display.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Self::SCALE)
    }

    /// Whether `part` of `whole` is this share or more; an empty whole has no share.
    pub fn is_reached_by(self, part: u32, whole: u32) -> bool {
        whole > 0 && u64::from(part) * u64::from(Self::SCALE) >= u64::from(whole) * u64::from(self.0)
    }

    /// `self × whole`, in millionths.
    pub(crate) fn millionths_of(self, whole: u32) -> u64 {
        u64::from(self.0) * u64::from(whole)
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_f64())
    }
}

/// The origin of a clock. Moments are nanoseconds since it, so that they fit an atomic word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(Instant);

impl Epoch {
    pub(crate) fn new(origin: Instant) -> Epoch {
        Epoch(origin)
    }

    /// Nanoseconds from the origin to `now`; 0 before it, saturating after 584 years.
    pub(crate) fn nanos(self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.0).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The moment that [`Epoch::nanos`] gave.
    pub(crate) fn at(self, nanos: u64) -> Instant {
        self.0.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_holds_its_range_and_nothing_else() {
        for (value, ppm) in [(0.0, 0), (0.15, 150_000), (1.0, 1_000_000), (1000.0, 1_000_000_000), (1e-6, 1)] {
            let ratio = Ratio::from_f64(value).expect("in range");
            assert_eq!((ratio.ppm(), ratio.as_f64(), format!("{ratio:?}")), (ppm, value, value.to_string()));
        }
        for value in [-0.1, 1000.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Ratio::from_f64(value), None, "{value}");
        }
    }

    #[test]
    fn a_share_is_reached_exactly_at_its_boundary() {
        let half = Ratio::from_ppm(500_000).expect("in range");
        for (part, whole, reached) in
            [(9, 20, false), (10, 20, true), (11, 20, true), (0, 0, false), (u32::MAX, u32::MAX, true)]
        {
            assert_eq!(half.is_reached_by(part, whole), reached, "{part}/{whole}");
        }
    }
}
