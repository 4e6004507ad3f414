//! Eight bytes in one step, in a plain word: this is how most of every head is read. A kind of byte is a function that sets the high bit of each one.

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// Walks over whole lanes as long as `find` finds nothing in them. Returns where it found something, or where less than a lane is left.
#[inline(always)]
pub(super) fn skip(bytes: &[u8], find: impl Fn(u64) -> u64) -> usize {
    let mut at = 0;
    for lane in bytes.as_chunks::<8>().0 {
        let found = find(u64::from_le_bytes(*lane)) & HIGHS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at
}

/// Marks the control bytes, DEL and the horizontal tab among them; the first mark is always right, one after it may not be.
#[inline(always)]
pub(super) fn control(word: u64) -> u64 {
    let del = word ^ (ONES * 0x7f);
    (word.wrapping_sub(ONES * 0x20) | del.wrapping_sub(ONES)) & !word
}

/// Marks everything but letters and hyphens.
#[inline(always)]
pub(super) fn no_letter_or_hyphen(word: u64) -> u64 {
    let hyphen = word ^ (ONES * b'-' as u64);
    !letters(word) & (((hyphen & !HIGHS) + !HIGHS) | hyphen) | word
}

/// Marks everything but letters, digits, `-`, `.` and `/`.
#[inline(always)]
pub(super) fn no_letter_digit_or_slash(word: u64) -> u64 {
    !letters(word) & !within(word, b'-', b'9') | word
}

/// The high bit of each byte of ASCII from `min` to `max`.
#[inline(always)]
fn within(word: u64, min: u8, max: u8) -> u64 {
    let low = word & !HIGHS;
    (low + ONES * (0x80 - min as u64)) & !(low + ONES * (0x7f - max as u64))
}

#[inline(always)]
fn letters(word: u64) -> u64 {
    within(word | (ONES * 0x20), b'a', b'z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_found_at_each_place_whatever_is_around_it() {
        let check = |find: fn(u64) -> u64, is: fn(u8) -> bool, fillings: &[u8]| {
            let cases = fillings.iter().flat_map(|filling| (0..8).map(move |at| (*filling, at)));
            for (filling, at, byte) in cases.flat_map(|(filling, at)| (0..=255).map(move |byte| (filling, at, byte))) {
                for after in [filling, 0, b',', 0x7f, 0x80, 0xff] {
                    let mut lane = [filling; 8];
                    lane[at] = byte;
                    if let Some(next) = lane.get_mut(at + 1) {
                        *next = after;
                    }
                    let expected = lane.iter().position(|byte| is(*byte)).unwrap_or(8);
                    assert_eq!(skip(&lane, find), expected, "{}", lane.escape_ascii());
                }
            }
        };
        check(control, |byte| byte.is_ascii_control(), b" ~\x80\xff");
        check(no_letter_or_hyphen, |byte| !byte.is_ascii_alphabetic() && byte != b'-', b"azAZ-");
        check(no_letter_digit_or_slash, |byte| !byte.is_ascii_alphanumeric() && !b"-./".contains(&byte), b"azAZ-./09");
    }
}
