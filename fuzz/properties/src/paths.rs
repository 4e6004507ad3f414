//! The path of a request. Its normal form is normal, and a request counts as safe to repeat only if it does for every server in a list of plain readers, each of
//! which reads paths in its own way: with and without each of the steps that servers take, in the orders in which they take them.

use http::Method;
use outrigger::clock;
use outrigger::config::Config;
use outrigger::live::Live;
use outrigger::live::route::Route;
use outrigger::path::RequestPath;
use outrigger::telemetry::metrics::Metrics;
use outrigger::upstream::resolve::Addresses;
use outrigger_http1::parse::{Heads, Limits};

/// Panics if the property does not hold for `bytes`: a line `+` or `-` with the path of a POST behind it, then up to eight lines `+` or `-` with a route's
/// prefix. `+` is safe to repeat; the first one is the word of the default route.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines().filter_map(word_of);
    let Some((default, path)) = lines.next() else { return };
    let routes: Vec<(bool, &str)> = lines.take(8).collect();
    let head = format!("POST {path} HTTP/1.1\r\nHost: backend\r\n\r\n");
    let taken = Heads::requests(Limits::default()).request(head.as_bytes());
    let Ok(Some(taken)) = taken else { return };
    let path = taken.head.path();
    let Some(live) = live(default, &routes) else { return };
    check_normal(path);

    let found = live.table.by_name("backend").expect("it is configured").routes;
    let says = |route: &Route| route.config.repeat.idempotent;
    let is_repeatable = found.every_reading(RequestPath::new(path), Some(&Method::POST), says);
    if is_repeatable {
        assert!(says(found.find(RequestPath::new(path), &Method::POST)), "{path}: the route itself says no");
    }
    for server in Server::all() {
        let read = server.read(path);
        let finds = |prefix: &str| {
            let plain = Server { odd: Odd::No, ..server };
            read.starts_with(&server.read(prefix)) || read.starts_with(&plain.read(prefix))
        };
        let route = routes.iter().find(|(_, prefix)| finds(prefix));
        let word = route.map_or(default, |(word, _)| *word);
        assert!(word || !is_repeatable, "{path} of {routes:?} is repeated, and {server:?} reads {read:?}");
    }
    let is_plain =
        path.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'/') && !path.contains("//");
    let is_config_plain = routes.iter().all(|(_, prefix)| prefix.bytes().all(|b| b.is_ascii_lowercase() || b == b'/'));
    if is_plain && is_config_plain {
        let word = says(found.find(RequestPath::new(path), &Method::POST));
        assert_eq!(is_repeatable, word, "{path}: a plain path has one reading");
    }
}

fn word_of(line: &str) -> Option<(bool, &str)> {
    line.strip_prefix('+').map(|rest| (true, rest)).or_else(|| line.strip_prefix('-').map(|rest| (false, rest)))
}

/// `None` if a prefix is refused.
fn live(default: bool, routes: &[(bool, &str)]) -> Option<Live> {
    let mut text = format!(
        "[upstreams.backend]\nendpoints = [\"127.0.0.1:5001\"]\n[upstreams.backend.retry]\nidempotent = {default}\n"
    );
    for (n, (word, prefix)) in routes.iter().enumerate() {
        text += &format!(
            "[[upstreams.backend.routes]]\nname = \"r{n}\"\npath_prefix = {prefix:?}\nretry.idempotent = {word}\n"
        );
    }
    let config = Config::parse("fuzz.toml", &text).ok()?;
    Some(Live::build(config, None, &Addresses::new(), &Metrics::new(), clock::now()))
}

fn check_normal(path: &str) {
    let normal = RequestPath::new(path).normal();
    let normal = normal.as_str();
    assert_eq!(RequestPath::new(normal).normal().as_str(), normal, "{path}: its normal form is not normal");
    assert!(normal.starts_with('/') == path.starts_with('/'), "{path}: {normal}");
    let segments: Vec<&str> = normal.split('/').skip(1).collect();
    let (last, inner) = segments.split_last().map_or(("", &segments[..]), |(last, inner)| (*last, inner));
    assert!(
        ![".", ".."].contains(&last) && !inner.iter().any(|inner| ["", ".", ".."].contains(inner)),
        "{path}: {normal}"
    );
    assert!(normal.len() <= 3 * path.len(), "{path}: {normal}");
}

/// How a server reads paths.
#[derive(Clone, Copy, Debug)]
struct Server {
    decodes: Decodes,
    /// Dot segments are removed before the first decoding already, and after each one.
    resolves_early: bool,
    backslashes: bool,
    parameters: bool,
    merges: Merges,
    resolves: bool,
    windows: bool,
    odd: Odd,
}

/// What it does besides, at the end of each decoding or of all.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Odd {
    No,
    /// Leaves out control bytes.
    NoControls,
    /// Leaves out what is not ASCII, except that `‥` is two dots.
    NoForeign,
    /// The last segment counts without its extension.
    NoExtension,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Decodes {
    Never,
    /// Without slashes, backslashes and percent signs.
    Names,
    Once,
    Twice,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Merges {
    Never,
    BeforeDots,
    AfterDots,
    /// Never, and a leading `//` begins a host (WHATWG URLs).
    TakesHost,
}

impl Server {
    fn all() -> impl Iterator<Item = Server> {
        let bits = 0..1 << 11;
        bits.map(|bits: u16| {
            let has = |bit: u16| bits >> bit & 1 == 1;
            Server {
                decodes: [Decodes::Never, Decodes::Names, Decodes::Once, Decodes::Twice][usize::from(bits & 3)],
                merges: [Merges::Never, Merges::BeforeDots, Merges::AfterDots, Merges::TakesHost]
                    [usize::from(bits >> 2 & 3)],
                resolves_early: has(4),
                backslashes: has(5),
                parameters: has(6),
                resolves: has(7),
                windows: has(8),
                odd: [Odd::No, Odd::NoControls, Odd::NoForeign, Odd::NoExtension][usize::from(bits >> 9 & 3)],
            }
        })
    }

    /// The segments that it sees.
    fn read(&self, path: &str) -> Vec<Vec<u8>> {
        let mut segments = self.split(path.as_bytes());
        if self.resolves_early {
            segments = self.resolved(segments);
        }
        let times = match self.decodes {
            Decodes::Never => 0,
            Decodes::Names | Decodes::Once => 1,
            Decodes::Twice => 2,
        };
        for _ in 0..times {
            let whole: Vec<u8> =
                segments.iter().flat_map(|segment| [b"/", &self.decoded(segment)[..]].concat()).collect();
            let whole = self.thinned(whole);
            let end = whole.iter().position(|byte| matches!(byte, 0 | b'?' | b'#')).unwrap_or(whole.len());
            segments = self.split(&whole[..end]);
            if self.resolves_early {
                segments = self.resolved(segments);
            }
        }
        if self.resolves {
            segments = self.resolved(segments);
        }
        if self.merges != Merges::Never {
            segments.retain(|segment| !segment.is_empty() || self.merges == Merges::TakesHost);
        }
        if self.windows {
            for segment in &mut segments {
                segment.make_ascii_lowercase();
                let is_dots = segment.iter().all(|byte| *byte == b'.');
                while !is_dots && matches!(segment.last(), Some(b'.' | b' ')) {
                    segment.pop();
                }
            }
        }
        // A slash at the end begins no segment.
        if segments.last().is_some_and(Vec::is_empty) {
            segments.pop();
        }
        if let (Odd::NoExtension, Some(last)) = (self.odd, segments.last_mut()) {
            let dot = last.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
            last.truncate(dot.unwrap_or(last.len()));
        }
        segments
    }

    /// A decoded path without what this server leaves out.
    fn thinned(&self, mut path: Vec<u8>) -> Vec<u8> {
        match self.odd {
            Odd::NoControls => path.retain(|byte| !byte.is_ascii_control() || *byte == 0),
            Odd::NoForeign => {
                while let Some(at) = path.windows(3).position(|three| three == "‥".as_bytes()) {
                    path.splice(at..at + 3, *b"..");
                }
                path.retain(u8::is_ascii);
            }
            Odd::No | Odd::NoExtension => {}
        }
        path
    }

    fn split(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let is_slash = |byte: &u8| *byte == b'/' || self.backslashes && *byte == b'\\';
        let mut segments: Vec<Vec<u8>> = path.split(is_slash).skip(1).map(<[u8]>::to_vec).collect();
        if self.parameters {
            for segment in &mut segments {
                segment.truncate(segment.iter().position(|byte| *byte == b';').unwrap_or(segment.len()));
            }
        }
        if self.merges == Merges::TakesHost && segments.len() > 1 && segments[0].is_empty() {
            segments.drain(..2);
        }
        segments
    }

    fn resolved(&self, segments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut stack: Vec<Vec<u8>> = Vec::new();
        for segment in segments {
            match &segment[..] {
                b"." => {}
                b"" if self.merges == Merges::BeforeDots => {}
                b".." => {
                    stack.pop();
                }
                _ => stack.push(segment),
            }
        }
        stack
    }

    fn decoded(&self, segment: &[u8]) -> Vec<u8> {
        let (mut decoded, mut rest) = (Vec::new(), segment);
        while let Some((first, after)) = rest.split_first() {
            let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            let byte = digits.filter(|_| *first == b'%').filter(|digits| !digits.starts_with('+'));
            let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            let byte = byte.filter(|byte| self.decodes != Decodes::Names || !b"/\\%".contains(byte));
            decoded.push(byte.unwrap_or(*first));
            rest = if byte.is_some() { &after[2..] } else { after };
        }
        decoded
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_readers_read_as_their_models_do() {
        let literal = Server {
            decodes: Decodes::Never,
            resolves_early: false,
            backslashes: false,
            parameters: false,
            merges: Merges::Never,
            resolves: false,
            windows: false,
            odd: Odd::No,
        };
        let nginx = Server { decodes: Decodes::Once, merges: Merges::BeforeDots, resolves: true, ..literal };
        let tomcat = Server { parameters: true, ..nginx };
        let iis = Server { backslashes: true, windows: true, ..nginx };
        let url = Server { backslashes: true, merges: Merges::TakesHost, resolves: true, ..literal };
        for (server, path, expected) in [
            (literal, "/a/../%62//c", "a|..|%62||c"),
            (nginx, "/a/../%62//c/./%2e%2E/d%2fe", "b|d|e"),
            (tomcat, "/search/..;/pay;x=1", "pay"),
            (nginx, "/search/..;/pay", "search|..;|pay"),
            (iis, "/search\\..\\PAY.", "pay"),
            (url, "//host/pay", "pay"),
            (Server { decodes: Decodes::Twice, ..nginx }, "/search/%252e%252e/pay", "pay"),
            (Server { decodes: Decodes::Names, ..nginx }, "/a%2Fb%20c", "a%2Fb c"),
            (Server { odd: Odd::NoControls, ..nginx }, "/search/.%09./pay", "pay"),
            (Server { odd: Odd::NoForeign, ..nginx }, "/search/%E2%80%A5/p%80ay", "pay"),
            (Server { odd: Odd::NoExtension, ..nginx }, "/v1.0/pay.json/", "v1.0|pay"),
        ] {
            let read: Vec<_> =
                server.read(path).into_iter().map(|segment| String::from_utf8(segment).expect("ASCII")).collect();
            assert_eq!(read.join("|"), expected, "{path}");
        }
    }

    /// What paths are put together from: plain segments, and what some server reads as something else.
    const PIECES: &str = r"/ / / / /search /search /pay /x /PAY /Search // /.. /.. /. \ \.. %2f.. %5c.. ..; .. . %2e %2E %2f %5c %252e %252f %25 % ; ;v=1 \
                           %3b %3f %00 %20 + %70ay search pay a%2Fb caf%C3%A9 CAF%c3%89 %c0%ae %2%65 %09 .%0A. %80 %E2%80%A5 .json .js ~1 (S(x)) ::$DATA a 2e ?q | : -";
    const BEGINNINGS: &str = "/ /search /search/ /search/x/ /search/x/.. //";
    const PREFIXES: &str = "/ /search /pay /search/pay /search/x /Search /PAY /caf%C3%A9 /search/a%2Fb /search;v=1 /x /search/pay/x /%25 /search/a \
                            /search/caf%C3%A9/pay /pay.json /search/pay.js";

    fn one_of(words: &'static str) -> impl Strategy<Value = &'static str> {
        prop::sample::select(words.split_whitespace().collect::<Vec<_>>())
    }

    fn case() -> impl Strategy<Value = String> {
        let path = (one_of(BEGINNINGS), prop::collection::vec(one_of(PIECES), 0..10))
            .prop_map(|(beginning, pieces)| beginning.to_owned() + &pieces.concat());
        let prefix = one_of(PREFIXES);
        let routes = prop::collection::vec((any::<bool>(), prefix), 0..5);
        (any::<bool>(), path, routes).prop_map(|(default, path, routes)| {
            let sign = |word| if word { '+' } else { '-' };
            let routes = routes.iter().map(|(word, prefix)| format!("\n{}{prefix}", sign(*word)));
            format!("{}{path}{}", sign(default), routes.collect::<String>())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn no_server_reads_a_path_that_is_repeated_as_one_that_must_not_be(case in case()) {
            check(case.as_bytes());
        }
    }
}
