//! Which bytes may stand where (RFC 9110 §5.6.2, RFC 3986 §2 and §3), and the two ways to walk over those that may.

/// A byte of a token: methods, field names, names in chunk extensions.
pub(super) const TOKEN: u8 = 1;
/// A byte of a path: what RFC 3986 allows, and what common clients send unescaped and every parser takes for itself.
pub(super) const PATH: u8 = 2;
/// A byte of a query.
pub(super) const QUERY: u8 = 4;
/// A byte of a host that is a name or an IPv4 address: no escapes, no comma, nothing that two readers could split in two ways.
pub(super) const HOST: u8 = 8;

static CLASSES: [u8; 256] = classes();

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        {
            classes[byte] |= TOKEN;
        }
        if b.is_ascii_graphic() && !matches!(b, b'#' | b'<' | b'>' | b'?' | b'`') {
            classes[byte] |= PATH;
        }
        if b.is_ascii_graphic() && !matches!(b, b'#' | b'<' | b'>' | b'"') {
            classes[byte] |= QUERY;
        }
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            classes[byte] |= HOST;
        }
        byte += 1;
    }
    classes
}

/// Whether `byte` is of `class`.
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Where the first byte that is not of `class` stands; `None` if there is none.
pub(super) fn end_of(bytes: &[u8], class: u8) -> Option<usize> {
    let of = |byte: &u8| CLASSES[usize::from(*byte)];
    let mut at = 0;
    // Four look-ups for one branch.
    for [a, b, c, d] in bytes.as_chunks::<4>().0 {
        if of(a) & of(b) & of(c) & of(d) & class == 0 {
            break;
        }
        at += 4;
    }
    while let Some(byte) = bytes.get(at) {
        if of(byte) & class == 0 {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Where the first control byte stands, DEL and the horizontal tab among them; the length if there is none. Eight bytes at a time: this walks over most of every head.
pub(super) fn first_control(bytes: &[u8]) -> usize {
    let (eights, rest) = bytes.as_chunks::<8>();
    let mut at = 0;
    for eight in eights {
        let word = u64::from_le_bytes(*eight);
        // The lowest high bit that is set is always a true finding; a borrow can only mark bytes after one.
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        let del = word ^ (ONES * 0x7f);
        let found = (below_space | (del.wrapping_sub(ONES) & !del)) & HIGHS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + rest.iter().position(u8::is_ascii_control).unwrap_or(rest.len())
}

/// Without blanks and tabs at both ends.
pub(super) fn trimmed(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    match (value.iter().position(is_text), value.iter().rposition(is_text)) {
        (Some(first), Some(last)) => value.get(first..=last).unwrap_or_default(),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_control_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            for at in 0..length {
                for control in (0..0x20).chain([0x7f]) {
                    for filling in [b' ', b'!', b'~', 0x80, 0xff] {
                        let mut bytes = vec![filling; length];
                        bytes[at] = control;
                        assert_eq!(first_control(&bytes), at);
                        bytes[length - 1] = control;
                        assert_eq!(first_control(&bytes), at.min(length - 1));
                    }
                }
            }
            assert_eq!(first_control(&vec![0x80; length]), length);
        }
    }

    #[test]
    fn the_classes_are_those_of_the_grammar() {
        let of = |class| (0..=255).filter(|byte| is(*byte, class)).map(char::from).collect::<String>();
        assert_eq!(of(TOKEN), "!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~");
        assert_eq!(of(HOST), "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~");
        let none = |class, bytes: &str| assert!(bytes.bytes().all(|byte| !is(byte, class)), "{bytes}");
        none(PATH, "\0\t\r\n #<>?`\x7f\u{80}");
        none(QUERY, "\0\t\r\n #<>\"\x7f\u{80}");
        assert_eq!((of(PATH).len(), of(QUERY).len()), (89, 90));
    }

    #[test]
    fn blanks_and_tabs_are_trimmed_and_nothing_else() {
        for (value, expected) in [("", ""), (" \t ", ""), ("a", "a"), (" a b\t", "a b"), ("\u{b}a", "\u{b}a")] {
            assert_eq!(trimmed(value.as_bytes()), expected.as_bytes());
        }
    }
}
