//! The path of a request, as the servers that may stand behind us read it.
//!
//! Two servers read the same bytes in two ways: `/a/../b`, `/a//b`, `/a/..;/b`, `/%61`, `/A`, `/a\b`. The proxy sends on what came, byte for byte, so what it
//! decides by the path has to hold for each of these readings. Every decision takes one of two views, and [`RequestPath`] is the only way to both:
//!
//! - [`RequestPath::normal`] is the one reading that ordinary policies follow. Percent-encoded unreserved characters are decoded (RFC 3986 §6.2.2.2), the
//!   digits of the other escapes become upper-case, slashes are merged, then dot segments removed (RFC 3986 §5.2.4). nginx merges first, too. An encoded slash
//!   is no slash, as with Envoy's defaults, and a `%` that begins no escape counts as `%25`.
//! - [`RequestPath::agreed`] is what all readings have in common. Whoever needs the strictest word of all readings asks for every route that a path with this
//!   beginning can lead to. The readings themselves are never listed, because their number grows with each way to read: instead, a segment that anybody could
//!   read as something else than one level with about this text ends the agreement, and whatever could be `..` takes from it. Two passes over the path, no
//!   memory.
//!
//! What this takes into account: decoding once, twice or not at all, also of `/`, `.` and `%`; `\` as a slash (IIS, WHATWG URLs); parameters after `;` (Tomcat);
//! slashes merged before, after or without dot segments; a leading `//` as the beginning of a host; ends at `?`, `#` and NUL; overlong and full-width UTF-8;
//! ASCII letters of either case; `+` as a blank; dots and blanks at the end of a segment, streams and short names of Windows; sessions in a segment
//! (ASP.NET); control bytes that are left out (WHATWG URLs); the extension of a file (`/pay.json`, `/index.php/pay`). A byte that is not ASCII once decoded can
//! be nearly anything: left out, a letter of ASCII in another case (`ſ`), a slash, or two dots. It knows no routes, and nothing of a query.

use std::borrow::Cow;

/// A path as it came, without its query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestPath<'a>(&'a str);

/// The reading of a path that ordinary policies follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NormalPath<'a>(Cow<'a, str>);

/// The beginning of a path that every server reads alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed<'a> {
    /// Leading segments, as they came: each of them is one level for everybody, with the same [`loose`] text, and nothing behind takes them away.
    pub levels: &'a str,
    /// `levels` is the whole path. Otherwise some servers see more levels.
    pub is_whole: bool,
    /// Leading segments that nothing behind them takes away, whatever they are.
    pub kept: &'a str,
    /// The path itself, or nothing if it has no segments.
    pub path: &'a str,
    /// Where the last segment ends that may climb.
    climbs_until: usize,
}

impl Agreed<'_> {
    /// Whether a configured prefix that the path begins with, byte for byte and for so many bytes, is matched in every reading: a server reads both alike, and
    /// nothing behind takes it away.
    pub fn keeps(&self, bytes: usize) -> bool {
        bytes <= self.kept.len() || bytes >= self.climbs_until
    }
}

impl<'a> RequestPath<'a> {
    /// `path` begins with `/`, or is the `*` of an OPTIONS.
    pub fn new(path: &'a str) -> RequestPath<'a> {
        RequestPath(path)
    }

    /// The reading that ordinary policies follow.
    #[inline]
    pub fn normal(self) -> NormalPath<'a> {
        let bytes = self.0.as_bytes();
        // All of them, without a branch: the compiler looks at many bytes at once.
        let is_odd = bytes.iter().zip(bytes.get(1..).unwrap_or_default()).fold(false, |is_odd, (before, byte)| {
            is_odd | (*byte == b'%') | (*before == b'/') & ((*byte == b'/') | (*byte == b'.'))
        });
        NormalPath(if is_odd { Cow::Owned(normalised(self.0)) } else { Cow::Borrowed(self.0) })
    }

    /// What every reading of the path begins with.
    pub fn agreed(self) -> Agreed<'a> {
        if !self.0.starts_with('/') {
            return Agreed { levels: "", is_whole: false, kept: "", path: "", climbs_until: 0 };
        }
        // How far down the path gets at least, and the lowest point behind the first segment that may climb. Below 0 counts on: some readers may not have got
        // to the root by then.
        let (mut level, mut lowest, mut climbs_until) = (0, i64::MAX, 0);
        for (end, segment) in self.segments() {
            level += i64::from(segment.is_level());
            if segment.climbs() > 0 {
                level -= i64::from(segment.climbs());
                (lowest, climbs_until) = (lowest.min(level), end);
            }
        }
        let (mut levels, mut kept, mut level, mut is_agreed) = (0, 0, 0, true);
        for (end, segment) in self.segments() {
            let is_last = end >= self.0.strip_suffix('/').unwrap_or(self.0).len();
            level += i64::from(segment.is_level());
            if segment.climbs() > 0 || level > lowest {
                is_agreed = false;
                break;
            }
            kept = end;
            // What stands behind a file's name may be the path for a program (`/index.php/pay`).
            is_agreed &= segment.is_level() && (is_last || !segment.has_extension);
            levels = if is_agreed { end } else { levels };
        }
        Agreed { levels: &self.0[..levels], is_whole: is_agreed, kept: &self.0[..kept], path: self.0, climbs_until }
    }

    /// Whether some server may read a segment of this path, which is configured, as `..`.
    pub fn may_climb(self) -> bool {
        self.segments().any(|(_, segment)| !segment.is_named && segment.pairs > 0)
    }

    /// The leading segments of this path, which is configured, that are one level for everybody. Unlike with a request, its author has no reason to mean
    /// anything but themselves by its letters and its extensions.
    pub fn prefix_levels(self) -> &'a str {
        let levels = self.segments().take_while(|(_, segment)| segment.is_named).last();
        &self.0[..levels.map_or(0, |(end, _)| end)]
    }

    /// Each segment, and where it ends. A slash at the end of the path begins none.
    fn segments(self) -> impl Iterator<Item = (usize, Segment)> {
        let below_root = self.0.strip_prefix('/').filter(|rest| !rest.is_empty());
        let segments = below_root.into_iter().flat_map(|rest| rest.strip_suffix('/').unwrap_or(rest).split('/'));
        segments.scan(0, |end, segment| {
            *end += 1 + segment.len();
            Some((*end, Segment::of(segment.as_bytes())))
        })
    }
}

impl NormalPath<'_> {
    /// Its text: normal itself, so reading it again changes nothing.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the servers make of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    /// All of them take it for one level, with the same [`loose`] text, if letters beyond ASCII are what they seem.
    is_named: bool,
    /// A dot and letters end it, as in `index.php`; a version such as `v1.0` does not count, nor does `.well-known`.
    has_extension: bool,
    /// How often dots in it could be `..`.
    pairs: u32,
    /// How many characters beyond ASCII it has, each of which could be `..`.
    foreign: u32,
}

impl Segment {
    fn of(segment: &[u8]) -> Segment {
        let (mut climbs, mut foreign) = (Climbs::default(), Foreign::default());
        let (mut is_named, mut has_extension, mut before) = (true, false, None);
        for (at, byte) in decoded(segment).enumerate() {
            is_named &= !is_open_after(before, byte);
            has_extension = match before {
                Some(b'.') if at > 1 => byte.is_ascii_alphabetic(),
                _ => has_extension && byte.is_ascii_alphanumeric(),
            };
            climbs.pass(byte);
            foreign.pass(byte);
            before = Some(byte);
        }
        // Empty, a dot segment, or what Windows takes for the same name as without its end.
        is_named &= !matches!(before, None | Some(b'.' | b' ' | b'+'));
        Segment { is_named, has_extension, pairs: climbs.pairs, foreign: foreign.characters }
    }

    /// Whether it is one level for everybody.
    fn is_level(&self) -> bool {
        self.is_named && self.foreign == 0
    }

    /// How many levels before it some server may take it to undo.
    fn climbs(&self) -> u32 {
        if self.is_level() { 0 } else { self.pairs + self.foreign }
    }
}

/// Counts the characters beyond ASCII, and the bytes that are none in UTF-8.
#[derive(Default)]
struct Foreign {
    characters: u32,
    /// Bytes that the begun character still has in UTF-8.
    missing: u32,
}

impl Foreign {
    fn pass(&mut self, byte: u8) {
        if matches!(byte, 0x80..0xc0) && self.missing > 0 {
            self.missing -= 1;
            return;
        }
        self.characters += u32::from(!byte.is_ascii());
        self.missing = byte.leading_ones().saturating_sub(1);
    }
}

/// Whether some server reads `byte`, decoded once and behind `before`, as something else than a part of a name.
fn is_open_after(before: Option<u8>, byte: u8) -> bool {
    match (before, byte) {
        // Separators, ends, and what is decoded once more.
        (_, b'/' | b'\\' | b';' | b'?' | b'#' | b'%') => true,
        // `(S(…))` is a session for ASP.NET; others trim blanks.
        (None, b'(' | b' ' | b'+') => true,
        // A short name and a stream of Windows.
        (Some(b'~'), b'0'..=b'9') | (Some(b':'), b':' | b'$') => true,
        // Overlong UTF-8, and full-width forms, which some take for their ASCII characters.
        (_, 0xc0 | 0xc1 | 0xef | 0xf8..) | (Some(0xe0), 0x80..0xa0) | (Some(0xf0), 0x80..0x90) => true,
        _ => byte.is_ascii_control(),
    }
}

/// Counts how often a segment can be read as `..`, at most: the pairs of bytes side by side that may be dots.
#[derive(Default)]
struct Climbs {
    pairs: u32,
    has_one: bool,
    /// The last byte that may be a dot is one only together with what follows, as in `%252e` and in overlong UTF-8.
    is_begun: bool,
}

impl Climbs {
    fn pass(&mut self, byte: u8) {
        match byte {
            b'.' | b'%' | 0xc0 | 0xc1 | 0xe0 | 0xef | 0xf0 => {
                self.is_begun = byte != b'.';
                self.pairs += u32::from(self.has_one);
                self.has_one = !self.has_one;
            }
            // `%u2025` is two dots.
            b'u' | b'U' if self.is_begun => self.pairs += 1,
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' if self.is_begun => {}
            // Some leave these out.
            0x00..=0x1f | 0x7f.. => {}
            _ => (self.has_one, self.is_begun) = (false, false),
        }
    }
}

/// The text of agreed levels as the most lenient server compares it: decoded, ASCII letters in lower case, `+` as a blank. Other alphabets count as one byte,
/// because their letters have cases, too.
pub fn loose(levels: &str) -> impl Iterator<Item = u8> + Clone {
    let mut is_foreign = false;
    decoded(levels.as_bytes()).filter_map(move |byte| {
        let was_foreign = std::mem::replace(&mut is_foreign, !byte.is_ascii());
        match byte {
            b'+' => Some(b' '),
            0x80.. => (!was_foreign).then_some(0x80),
            _ => Some(byte.to_ascii_lowercase()),
        }
    })
}

/// `levels` without the extension of its last segment: up to each dot in it, the shortest first.
pub fn stems(levels: &str) -> impl Iterator<Item = &str> {
    let name_at = levels.rfind('/').map_or(0, |at| at + 1);
    let dots = levels.bytes().enumerate().skip(name_at + 1).filter(|(at, byte)| match byte {
        b'.' => true,
        b'%' => matches!(escape(&levels.as_bytes()[at + 1..]), Some((b'.', _))),
        _ => false,
    });
    dots.map(|(at, _)| &levels[..at])
}

/// The bytes, decoded once. A `%` that begins no escape stands for itself.
fn decoded(mut bytes: &[u8]) -> impl Iterator<Item = u8> + Clone {
    std::iter::from_fn(move || {
        #[cfg(test)]
        tests::DECODED.with(|decoded| decoded.set(decoded.get() + 1));
        let (byte, rest) = match bytes {
            [b'%', rest @ ..] => escape(rest).unwrap_or((b'%', rest)),
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        bytes = rest;
        Some(byte)
    })
}

/// The byte whose two digits `bytes` begin with, and what follows them.
fn escape(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], rest) = bytes.split_first_chunk()?;
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(*high)? << 4 | digit(*low)?, rest))
}

/// The normal form of a path that is not plain.
#[cold]
fn normalised(path: &str) -> String {
    let Some(below_root) = path.strip_prefix('/') else { return path.to_owned() };
    let mut normal = String::with_capacity(path.len());
    let mut segments = below_root.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let begin = normal.len();
        normal.push('/');
        push_unescaped(&mut normal, segment);
        match &normal[begin..] {
            // A last one leaves its slash.
            "/" | "/." => normal.truncate(begin + usize::from(is_last)),
            "/.." => {
                normal.truncate(begin);
                normal.truncate(normal.rfind('/').unwrap_or(0));
                normal.push_str(if is_last { "/" } else { "" });
            }
            _ => {}
        }
    }
    normal
}

/// Appends `segment` without the escapes that nobody needs, and with the others in one form.
fn push_unescaped(normal: &mut String, segment: &str) {
    let mut pieces = segment.split('%');
    normal.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        match escape(piece.as_bytes()) {
            Some((byte, _)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                normal.push(char::from(byte));
                normal.push_str(&piece[2..]);
            }
            Some(_) => {
                normal.push('%');
                normal.extend(piece[..2].chars().map(|digit| digit.to_ascii_uppercase()));
                normal.push_str(&piece[2..]);
            }
            None => {
                normal.push_str("%25");
                normal.push_str(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// Bytes that this thread has decoded.
        pub(super) static DECODED: Cell<usize> = const { Cell::new(0) };
    }

    fn normal(path: &str) -> String {
        RequestPath::new(path).normal().as_str().to_owned()
    }

    #[test]
    fn the_normal_form_decodes_what_needs_no_escape_merges_slashes_and_removes_dot_segments() {
        for (path, expected) in [
            ("/", "/"),
            ("*", "*"),
            ("/a/b/", "/a/b/"),
            ("/A/b;c=d/e\\f", "/A/b;c=d/e\\f"),
            ("/.well-known/..x/x../...", "/.well-known/..x/x../..."),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../../..", "/"),
            ("/a//../b", "/b"),
            ("/a/%2e%2E/.%2e/b", "/b"),
            ("/%70ay%7E%2D%5f", "/pay~-_"),
            ("/caf%c3%a9%2f%3b%25%5C", "/caf%C3%A9%2F%3B%25%5C"),
            ("/%252e%252e", "/%252e%252e"),
            ("/100%", "/100%25"),
            ("/%zz%4", "/%25zz%254"),
            ("/%%37%30", "/%2570"),
            ("/%2%65", "/%252e"),
            ("/..;/..\\", "/..;/..\\"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn readers_agree_up_to_the_first_segment_that_has_two_readings_unless_dots_come_back_to_it() {
        for (path, levels, kept, is_whole) in [
            ("/", "", "", true),
            ("/a/b", "/a/b", "/a/b", true),
            ("/a/b/", "/a/b", "/a/b", true),
            (
                "/A-b_c.d~e!f$g&h'i*j,k=l:m@n(o)",
                "/A-b_c.d~e!f$g&h'i*j,k=l:m@n(o)",
                "/A-b_c.d~e!f$g&h'i*j,k=l:m@n(o)",
                true,
            ),
            ("/a%20b/c", "/a%20b/c", "/a%20b/c", true),
            ("/a/caf%C3%A9", "", "", false),
            ("/a/b/caf%C3%A9/c", "/a", "/a", false),
            ("/a/b/c/%80%80", "/a", "/a", false),
            ("/a/b/.%09./c", "/a", "/a", false),
            ("/a/b/.%00%0D%7f./c", "/a", "/a", false),
            ("/a/b/.%C2%AD./c", "", "", false),
            ("/a/b/%u2025/c", "/a", "/a", false),
            ("/a/b.js", "/a/b.js", "/a/b.js", true),
            ("/a/index.php/b", "/a", "/a/index.php/b", false),
            ("/a/v1.0/.well-known/b", "/a/v1.0/.well-known/b", "/a/v1.0/.well-known/b", true),
            ("/a/b;c/d", "/a", "/a/b;c/d", false),
            ("/a//b", "/a", "/a//b", false),
            ("/a/b//", "/a/b", "/a/b/", false),
            ("/a/.", "/a", "/a/.", false),
            ("/a%2Fb/c", "", "/a%2Fb/c", false),
            ("/a%2Fb/c/../d", "", "/a%2Fb", false),
            ("/a/b/..", "/a", "/a", false),
            ("/a/b/../c", "/a", "/a", false),
            ("/a/b/../../c", "", "", false),
            ("/a/b/c/d/../..", "/a/b", "/a/b", false),
            ("/a/../b/c", "", "", false),
            ("/../a", "", "", false),
            ("/a/b%2e%2e/c", "", "", false),
            ("/a/b/c%2f..%2f../d", "", "", false),
            ("/a/b/c%2f..%2f.x./d", "/a", "/a", false),
            ("/a/1.5%2F2.5", "/a", "/a/1.5%2F2.5", false),
            ("/a/%c0%ae%c0%ae/b", "", "", false),
            ("/a/%252e%252e/b", "", "", false),
            ("/a/%u002e%u002e/b", "", "", false),
            ("/a/%ef%bc%8e%ef%bc%8e/b", "", "", false),
            ("//a/b", "", "//a/b", false),
            ("//", "", "/", false),
            ("*", "", "", false),
        ] {
            let agreed = RequestPath::new(path).agreed();
            assert_eq!((agreed.levels, agreed.kept, agreed.is_whole), (levels, kept, is_whole), "{path}");
        }
    }

    #[test]
    fn a_segment_that_some_server_reads_as_something_else_is_no_level() {
        for open in [
            "a;b",
            "a\\b",
            "a%3Bb",
            "a%5Cb",
            "a%2fb",
            "a%3fb",
            "a%23b",
            "a%00",
            "a%25",
            "a%zz",
            "a%",
            "a.",
            "a%2e",
            "a%20",
            "a+",
            "+a",
            "%20a",
            "(S(a))",
            "%28a)",
            "a~1",
            "a%7e1",
            "a::b",
            "a:$b",
            "%c0%af",
            "%e0%80%af",
            "%f0%80%80%af",
            "%ef%bc%8f",
            "%7f",
            "caf%c3%a9",
            "a%80",
            "ta%c5%bfks",
            "index.php",
            "a%2ejson",
            "",
            ".",
            "..",
            "...",
        ] {
            let path = format!("/x/{open}/y");
            assert!(!RequestPath::new(&path).agreed().is_whole, "{path}");
        }
    }

    #[test]
    fn a_configured_prefix_is_whole_although_its_letters_are_not_ascii_and_it_has_extensions() {
        for (prefix, levels) in
            [("/caf%C3%A9/a.b/c", "/caf%C3%A9/a.b/c"), ("/a/b%2Fc/d", "/a"), ("/a%25/b", ""), ("", "")]
        {
            assert_eq!(RequestPath::new(prefix).prefix_levels(), levels, "{prefix}");
            assert!(!RequestPath::new(prefix).may_climb(), "{prefix}");
        }
    }

    #[test]
    fn a_prefix_that_ends_behind_the_last_climb_is_kept_and_one_that_ends_before_it_is_not() {
        let agreed = RequestPath::new("/a/caf%C3%A9/c").agreed();
        assert_eq!([0, 2, 13, 15].map(|bytes| agreed.keeps(bytes)), [true, false, true, true]);
    }

    #[test]
    fn the_stems_of_a_name_end_before_each_of_its_dots() {
        let all = |levels| stems(levels).collect::<Vec<_>>();
        assert_eq!(all("/a.b/pay.tar%2Egz"), ["/a.b/pay", "/a.b/pay.tar"]);
        assert!(["/pay", "/.pay", "", "/a.b/c"].iter().all(|levels| all(levels).is_empty()));
    }

    #[test]
    fn loose_texts_are_equal_where_lenient_servers_see_no_difference() {
        let text = |levels: &str| loose(levels).collect::<Vec<u8>>();
        for (one, other) in [
            ("/PAY/x", "/pay/X"),
            ("/%70ay", "/pay"),
            ("/a+b", "/a%20b"),
            ("/caf%C3%A9", "/CAF%C3%89"),
            ("/a%3Ab", "/a:b"),
        ] {
            assert_eq!(text(one), text(other), "{one} {other}");
        }
        assert_ne!(text("/pay"), text("/pays"));
        assert_ne!(text("/caf%C3%A9"), text("/cafe"));
    }

    #[test]
    fn a_long_path_of_dots_takes_two_looks_at_each_byte() {
        for unit in ["/..", "/a/..", "/%2e%2e", "/%252e%252e;", "//", "/a", "/a%2f..", "..", "%", "/%c0%ae."] {
            let path = format!("/{}", unit.repeat(300_000));
            let before = DECODED.get();
            RequestPath::new(&path).agreed();
            let looks = DECODED.get() - before;
            assert!(looks <= 2 * path.len(), "{unit}: {looks} looks at {} bytes", path.len());
            // What costs the square of this length does not end.
            assert!(normal(&path).len() <= 3 * path.len(), "{unit}");
        }
    }

    fn path() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "/", "/", ".", ".", "%", "%2", "2", "e", "E", "5", "a", "A", ";", "\\", "%2f", "%41", "%c3", "+", "~",
        ]);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn the_normal_form_is_normal(path in path()) {
            let once = normal(&path);
            prop_assert_eq!(normal(&once), once);
        }

        #[test]
        fn a_path_of_plain_segments_is_normal_and_everybody_agrees_on_it(path in "(/[a-zA-Z0-9_-]{1,8}){1,9}") {
            let plain = RequestPath::new(&path);
            prop_assert!(matches!(plain.normal(), NormalPath(Cow::Borrowed(text)) if text == path));
            let Agreed { levels, is_whole, kept, .. } = plain.agreed();
            prop_assert_eq!((levels, is_whole, kept), (&path[..], true, &path[..]));
        }

        #[test]
        fn what_is_agreed_begins_the_path_and_ends_with_a_segment(path in path()) {
            let Agreed { levels, is_whole, kept, .. } = RequestPath::new(&path).agreed();
            prop_assert!(kept.starts_with(levels) && path.starts_with(kept));
            prop_assert!([levels, kept].iter().all(|part| matches!(path.as_bytes().get(part.len()), None | Some(b'/'))));
            prop_assert!(!is_whole || levels == path || [levels, "/"].concat() == path);
        }
    }
}
