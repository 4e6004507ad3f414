//! Which endpoint gets the next attempt: the less loaded of two drawn at random.
//!
//! Power of two choices (Mitzenmacher 2001) on requests in flight. Two random looks already avoid the queues that random choice builds, and unlike
//! "least loaded of all" many sidecars do not fall on the same idle endpoint at once.

use rand::{Rng, RngExt};

/// The index of the chosen endpoint among `0..len`, or `None` if none is eligible.
///
/// `eligible(i)` says whether endpoint `i` may be chosen at all, `load(i)` how much work it has. Each draw scans from a random place to the next
/// eligible endpoint: constant time when most are eligible, linear when few are. Behind a gap an endpoint is drawn more often; the
/// comparison of loads evens that out.
pub fn pick(
    len: usize,
    eligible: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> u32,
    rng: &mut impl Rng,
) -> Option<usize> {
    match len {
        0 => return None,
        1 => return eligible(0).then_some(0),
        _ => {}
    }
    let mut scan = |taken: Option<usize>| {
        let start = rng.random_range(0..len);
        (start..len).chain(0..start).find(|i| Some(*i) != taken && eligible(*i))
    };
    let one = scan(None)?;
    match scan(Some(one)) {
        Some(other) if load(other) < load(one) => Some(other),
        _ => Some(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn only_eligible_endpoints_are_chosen() {
        let mut rng = StdRng::seed_from_u64(3);
        for len in 0..6usize {
            for mask in 0..1u32 << len {
                let eligible = |i: usize| mask & (1 << i) != 0;
                match pick(len, eligible, |_| 0, &mut rng) {
                    Some(i) => assert!(i < len && eligible(i), "{i} of {len}, mask {mask:b}"),
                    None => assert_eq!(mask, 0, "an eligible endpoint was overlooked"),
                }
            }
        }
    }

    #[test]
    fn equal_endpoints_get_equal_shares() {
        let mut rng = StdRng::seed_from_u64(4);
        let mut hits = [0u32; 4];
        for _ in 0..40_000 {
            hits[pick(4, |_| true, |_| 0, &mut rng).expect("all are eligible")] += 1;
        }
        assert!(hits.iter().all(|h| (9_500..=10_500).contains(h)), "{hits:?}");
    }

    #[test]
    fn the_most_loaded_endpoint_is_never_chosen_while_another_lives() {
        let mut rng = StdRng::seed_from_u64(5);
        let loads = [3, 9, 1];
        assert!((0..1_000).all(|_| pick(3, |_| true, |i| loads[i], &mut rng) != Some(1)));
    }
}
