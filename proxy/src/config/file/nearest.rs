//! Finds the known key that a misspelt one probably means.

/// The known key nearest to `key`, if one is near enough that it was probably meant.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    // A slip in three letters; in "app" one, in "consecutive_failures" six.
    let slips_max = |candidate: &str| (candidate.len() / 3).max(1);
    // Each letter too many is a slip: most candidates need no comparison, which would be slow for a file of noise.
    let near = known.iter().filter(|candidate| candidate.len().abs_diff(key.len()) <= slips_max(candidate));
    let (slips, candidate) =
        near.map(|candidate| (slips(key, candidate), *candidate)).min_by_key(|(slips, _)| *slips)?;
    (slips <= slips_max(candidate)).then_some(candidate)
}

/// Slips between two keys; words in another order ("attempts_max") are none.
fn slips(a: &str, b: &str) -> usize {
    let as_written = strsim::damerau_levenshtein(a, b);
    as_written.min(strsim::damerau_levenshtein(&sorted_words(a), &sorted_words(b)))
}

fn sorted_words(key: &str) -> String {
    let mut words: Vec<&str> = key.split(['_', '-']).collect();
    words.sort_unstable();
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_key_and_another_word_finds_none() {
        let known = ["max_attempts", "backoff_base", "backoff_cap", "app", "statuses"];
        for (key, meant) in [
            ("max_attemps", Some("max_attempts")),
            ("attempts_max", Some("max_attempts")),
            ("max-attempts", Some("max_attempts")),
            ("backoff_bas", Some("backoff_base")),
            ("ap", Some("app")),
            ("status", Some("statuses")),
            ("hedge", None),
            ("", None),
        ] {
            assert_eq!(nearest(key, &known), meant, "{key}");
        }
        assert_eq!(nearest("x", &[]), None);
    }
}
