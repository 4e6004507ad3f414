//! How much memory it can take to read a text, found out before it is read.
//!
//! The TOML parser makes up to 600 bytes of one byte: of a dot a table, of a stray mark an error. A file that somebody has put there by mistake may be of any kind,
//! and the proxy that reads it at a reload must live on. So one pass over the marks of the text, which allocates nothing, adds up the most that the parser makes
//! of each. It does not know what is valid; a valid file takes a third of what is found here.

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::duration::show_size;
use super::fault::Faults;
use crate::memory::container::Container;

/// The share of the memory that reading a file may take. The heap's own limits see to what else must give way meanwhile.
const SHARE: usize = 4;
const MIB: usize = 1024 * 1024;

/// Of each byte, whatever it is: the text, the offsets of its lines, the parser's first buffer.
const BYTE: usize = 10;
/// Of a dot, which can begin a table of its own, and of a brace.
const TABLE: usize = 1_050;
/// Of an equals sign: an entry, or up to three errors.
const ENTRY: usize = 550;
/// Of any other mark, word or string, which can be an error.
const MARK: usize = 290;
const BLANK: usize = 60;
/// Of a byte that can be an error by itself within a mark: a control byte, a wrong escape, a number's misplaced separator.
const ODD_BYTE: usize = 300;

/// The bytes that reading a file may take.
pub(super) fn allowed() -> usize {
    (Container::find().usable().bytes / SHARE / MIB).max(1) * MIB
}

/// Refuses a text that may take more than `allowed` bytes to read.
///
/// # Errors
/// One fault, in the line in which that is reached.
pub(super) fn check(name: &str, text: &str, allowed: usize) -> Result<(), Faults> {
    let odd = text.bytes().filter(|byte| matches!(byte, 0..=8 | 11..=31 | 127 | b'\\' | b'_')).count();
    let mut bytes = text.len() * BYTE + odd * ODD_BYTE;
    for token in Source::new(text).lex() {
        bytes += match token.kind() {
            TokenKind::Dot | TokenKind::LeftCurlyBracket => TABLE,
            TokenKind::Equals => ENTRY,
            TokenKind::Whitespace | TokenKind::Comment => BLANK,
            _ => MARK,
        };
        if bytes > allowed {
            let before = text.as_bytes().get(..token.span().start()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            return Err(Faults::too_heavy(name, line, &show_size(allowed)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::memory::ledger::Ledger;

    #[test]
    fn a_text_is_refused_in_the_line_in_which_it_becomes_too_heavy() {
        let text = "a = 1\n".repeat(1_000);
        assert_eq!(check("f", &text, 4 * MIB), Ok(()));
        let fault = check("f", &text, 512 * 1024).expect_err("a key takes a KiB").to_string();
        assert!(
            fault.ends_with("to read the file up to here may take more than 512KiB, a quarter of the memory"),
            "{fault}"
        );
        let line: usize =
            fault.strip_prefix("f:").and_then(|rest| rest.split(':').next()?.parse().ok()).expect("a line");
        assert!((300..600).contains(&line), "{fault}");
    }

    #[test]
    fn routes_by_the_thousand_are_read_in_what_the_manifest_gives() {
        let route = |n| format!("[[upstreams.a.routes]]\nname = \"route-{n}\"\npath_prefix = \"/route/{n}\"\n");
        let routes = |count| (0..count).map(route).collect::<String>();
        assert_eq!(check("f", &routes(3_500), 32 * MIB), Ok(()));
        assert!(check("f", &routes(40_000), 32 * MIB).is_err());
        assert_eq!(check("f", &routes(30_000), 256 * MIB), Ok(()), "where there is more memory");
        assert_eq!(check("f", &"# a comment of usual length, as they come\n".repeat(30_000), 32 * MIB), Ok(()));
    }

    /// What the parser keeps of a text is a part of what it takes, and can be measured.
    #[test]
    fn the_parser_never_keeps_more_than_was_reckoned() {
        for unit in [
            "1,",
            "{},",
            "[],",
            "{a=1},",
            ",",
            "=\n",
            "=",
            ".",
            "a=\n",
            "a.a.a.a=1\n",
            "[[x]]\n[x.a.a.a.a]\n",
            "a\n",
            "\"\n",
            "\"\\q\",",
            "\\q",
            "\u{1}",
            "\r",
            "1-,",
            "1__",
            "]\n",
            ".\n",
            "=.\n",
            "[.\n",
            "\"\".",
            "{a.a.a=1},",
            "\u{feff}",
            "- a: b\n",
            "{\"a\": [1, \"b\"]},\n",
        ] {
            for (begin, end) in [("", ""), ("x=[", "]\n"), ("x=\"", "\"\n"), ("x=", "\n"), ("#", "\n")] {
                let text = format!("{begin}{}{end}", unit.repeat(20_000 / unit.len()));
                let (kept, entry) = Ledger::default().enter(|| DeTable::parse_recoverable(&text));
                assert!(check("f", &text, entry.bytes()).is_err(), "{begin}{unit}: {} bytes", entry.bytes());
                drop(kept);
            }
        }
    }
}
