//! Which bytes may stand where (RFC 9110 §5.6.2, RFC 3986 §2 and §3), and the two ways to walk over those that may.

mod lanes;

/// A byte of a token: methods, field names, names in chunk extensions.
pub(super) const TOKEN: u8 = 1;
/// A byte of a path: what RFC 3986 allows, and what common clients send unescaped and every parser takes for itself.
pub(super) const PATH: u8 = 2;
/// A byte of a query.
pub(super) const QUERY: u8 = 4;
/// A byte of a host that is a name or an IPv4 address: no escapes, no comma, nothing that two readers could split in two ways.
pub(super) const HOST: u8 = 8;

static CLASSES: [u8; 256] = classes();

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

/// Where the first byte from `at` on stands that is not of `class`; the length if there is none.
pub(super) fn end_of(bytes: &[u8], mut at: usize, class: u8) -> usize {
    while let Some(byte) = bytes.get(at) {
        if !is(*byte, class) {
            break;
        }
        at += 1;
    }
    at
}

/// [`end_of`] a token from the beginning, made for field names: mostly letters and hyphens.
#[inline(always)]
pub(super) fn name_end(bytes: &[u8]) -> usize {
    end_of(bytes, lanes::skip(bytes, lanes::no_letter_or_hyphen), TOKEN)
}

/// [`end_of`] a path from the beginning: mostly letters, digits and what separates them.
#[inline(always)]
pub(super) fn path_end(bytes: &[u8]) -> usize {
    end_of(bytes, lanes::skip(bytes, lanes::no_letter_digit_or_slash), PATH)
}

/// Where the first control byte stands, DEL and the horizontal tab among them; the length if there is none.
#[inline(always)]
pub(super) fn first_control(bytes: &[u8]) -> usize {
    let mut at = lanes::skip(bytes, lanes::control);
    while bytes.get(at).is_some_and(|byte| !byte.is_ascii_control()) {
        at += 1;
    }
    at
}

/// Without blanks and tabs at both ends.
pub(super) fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
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
    fn names_and_paths_end_where_their_class_does() {
        for length in 0..40 {
            for at in 0..length {
                for byte in 0..=255u8 {
                    for (filling, after) in
                        [(b'a', b'a'), (b'-', b','), (b'Z', b':'), (b'7', b'-'), (b'z', 0xff), (b'/', b'?')]
                    {
                        let mut bytes = vec![filling; length];
                        bytes[at] = byte;
                        if let Some(next) = bytes.get_mut(at + 1) {
                            *next = after;
                        }
                        assert_eq!(name_end(&bytes), end_of(&bytes, 0, TOKEN), "{}", bytes.escape_ascii());
                        assert_eq!(path_end(&bytes), end_of(&bytes, 0, PATH), "{}", bytes.escape_ascii());
                    }
                }
            }
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
