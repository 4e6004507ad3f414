//! The seeds: one file per property, one seed per line, `name: bytes` with the escapes of a Rust byte string, so that a seed can be read and reviewed.
//!
//! They are the known cases in which two readers of HTTP disagree (request smuggling, response splitting), and every input that the fuzzer has found.

/// The seeds of the property `name`, with their names.
///
/// # Panics
/// There is no such property, or a line is malformed.
pub fn of(name: &str) -> Vec<(String, Vec<u8>)> {
    let text = match name {
        "responses" => include_str!("../seeds/responses.txt"),
        "authority" => include_str!("../seeds/authority.txt"),
        "config" => include_str!("../seeds/config.txt"),
        "headers" => include_str!("../seeds/headers.txt"),
        "paths" => include_str!("../seeds/paths.txt"),
        "policies" => include_str!("../seeds/policies.txt"),
        "requests" => include_str!("../seeds/requests.txt"),
        "times" => include_str!("../seeds/times.txt"),
        other => panic!("no property is called {other}"),
    };
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, bytes) = line.split_once(": ").unwrap_or_else(|| panic!("no name: {line}"));
            (name.to_owned(), unescaped(bytes))
        })
        .collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let [escape, after @ ..] = rest else { panic!("{text}: ends in an escape") };
        rest = after;
        bytes.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'\\' | b'\'' | b'"' => *escape,
            b'x' => {
                let (digits, after) =
                    rest.split_at_checked(2).unwrap_or_else(|| panic!("{text}: \\x needs two digits"));
                rest = after;
                let digits = std::str::from_utf8(digits).unwrap_or_default();
                u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{text}: \\x{digits}"))
            }
            other => panic!("{text}: unknown escape {}", char::from(*other)),
        });
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_byte_strings() {
        assert_eq!(unescaped(r"a\r\n\t\0\\\xff\x00b"), b"a\r\n\t\0\\\xff\x00b");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescaped(&all.escape_ascii().to_string()), all);
    }

    /// Checks each seed and some of its beginnings, because bytes that break off must keep the property too.
    fn holds(name: &str, check: fn(&[u8])) {
        let seeds = of(name);
        assert!(seeds.len() >= 4, "{name}: {} seeds", seeds.len());
        for (seed, bytes) in seeds {
            let cuts = (0..bytes.len()).step_by(bytes.len().div_ceil(5).max(1)).chain([bytes.len()]);
            for length in cuts {
                let result = std::panic::catch_unwind(|| check(&bytes[..length]));
                assert!(result.is_ok(), "{name}: {seed}, {length} of {} bytes", bytes.len());
            }
        }
    }

    #[test]
    fn responses_hold_for_their_seeds() {
        holds("responses", crate::responses::check);
    }

    #[test]
    fn authority_holds_for_its_seeds() {
        holds("authority", crate::authority::check);
    }

    #[test]
    fn config_holds_for_its_seeds() {
        holds("config", crate::config::check);
    }

    #[test]
    fn headers_hold_for_their_seeds() {
        holds("headers", crate::headers::check);
    }

    #[test]
    fn paths_hold_for_their_seeds() {
        holds("paths", crate::paths::check);
    }

    #[test]
    fn policies_hold_for_their_seeds() {
        holds("policies", crate::policies::check);
    }

    #[test]
    fn requests_hold_for_their_seeds() {
        holds("requests", crate::requests::check);
    }

    #[test]
    fn times_hold_for_their_seeds() {
        holds("times", crate::times::check);
    }
}
