//! Exact quantiles of a few thousand values. The client counts into a histogram instead, because its runs have no end.

/// The smallest value that a share of the values (0 to 1) does not exceed; `None` without values.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks are small"
)]
pub fn quantile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let check = |values: &[f64], share: f64, expected: Option<f64>| {
            assert_eq!(quantile(values.to_vec(), share), expected, "{values:?} {share}");
        };
        check(&[], 0.5, None);
        check(&[7.0], 0.99, Some(7.0));
        check(&[3.0, 1.0, 2.0, 4.0], 0.5, Some(2.0));
        check(&[3.0, 1.0, 2.0, 4.0], 0.0, Some(1.0));
        check(&[3.0, 1.0, 2.0, 4.0], 1.0, Some(4.0));
    }
}
