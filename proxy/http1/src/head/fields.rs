//! Fields: which of them are known, where they stand, and how they are written.

use std::ops::Range;

/// Fields that are known by name, because framing, the connection or a proxy hangs on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Name {
    /// Any other field.
    Other,
    /// `Connection`.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Date`.
    Date,
    /// `Expect`.
    Expect,
    /// `Host`.
    Host,
    /// `HTTP2-Settings`.
    Http2Settings,
    /// `Idempotency-Key`.
    IdempotencyKey,
    /// `Keep-Alive`.
    KeepAlive,
    /// `Max-Forwards`.
    MaxForwards,
    /// `X-HTTP-Method-Override` and its like: some frameworks take the method from them.
    MethodOverride,
    /// `X-Original-URL`, `SCRIPT_NAME` and their like: some servers take the path, or a part of it, from them.
    PathOverride,
    /// `Outrigger-Attempts`, this workspace's own field: known here so that removing it costs a bit and no comparison.
    Attempts,
    /// `Proxy-Authenticate`.
    ProxyAuthenticate,
    /// `Proxy-Authorization`.
    ProxyAuthorization,
    /// `Proxy-Connection`.
    ProxyConnection,
    /// `Retry-After`.
    RetryAfter,
    /// `TE`.
    Te,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Upgrade`.
    Upgrade,
}

impl Name {
    /// The name that `text` is, which is a token, in whatever case it is written.
    #[inline]
    pub fn of(text: &[u8]) -> Name {
        // Length and first letter leave at most one candidate.
        let first = text.first().map_or(0, |byte| byte | 0x20);
        let (name, expected): (Name, &[u8]) = match (text.len(), first) {
            (2, b't') => (Name::Te, b"te"),
            (4, b'd') => (Name::Date, b"date"),
            (4, b'h') => (Name::Host, b"host"),
            (6, b'e') => (Name::Expect, b"expect"),
            (7, b'u') => (Name::Upgrade, b"upgrade"),
            (10, b'c') => (Name::Connection, b"connection"),
            (10, b'k') => (Name::KeepAlive, b"keep-alive"),
            (11, b'r') => (Name::RetryAfter, b"retry-after"),
            (12, b'm') => (Name::MaxForwards, b"max-forwards"),
            (14, b'c') => (Name::ContentLength, b"content-length"),
            (14, b'h') => (Name::Http2Settings, b"http2-settings"),
            (15, b'i') => (Name::IdempotencyKey, b"idempotency-key"),
            (16, b'p') => (Name::ProxyConnection, b"proxy-connection"),
            (17, b't') => (Name::TransferEncoding, b"transfer-encoding"),
            (18, b'o') => (Name::Attempts, b"outrigger-attempts"),
            (18, b'p') => (Name::ProxyAuthenticate, b"proxy-authenticate"),
            (19, b'p') => (Name::ProxyAuthorization, b"proxy-authorization"),
            (8..=22, b'x') | (9, b'p') | (11, b's') => return Name::overriding(text),
            _ => return Name::Other,
        };
        // Control bytes are the only others that the bit makes equal, and a token has none.
        let is_same = text.iter().zip(expected).all(|(byte, expected)| byte | 0x20 == *expected);
        if is_same { name } else { Name::Other }
    }

    /// The field that replaces the method or the path and whose name is `text`. Gateways make variables of names, so that `-` and `_` are the same to them.
    fn overriding(text: &[u8]) -> Name {
        let (name, candidates): (Name, &[&[u8]]) = match text.len() {
            8 => (Name::MethodOverride, &[b"x-method"]),
            9 => (Name::PathOverride, &[b"path-info"]),
            11 => (Name::PathOverride, &[b"script-name"]),
            13 if text[2] | 0x20 == b'h' => (Name::MethodOverride, &[b"x-http-method"]),
            13 => (Name::PathOverride, &[b"x-rewrite-url", b"x-script-name"]),
            14 => (Name::PathOverride, &[b"x-original-url", b"x-original-uri"]),
            15 if text[2] | 0x20 == b'h' => (Name::MethodOverride, &[b"x-http-override"]),
            15 => (Name::PathOverride, &[b"x-forwarded-uri"]),
            17 => (Name::MethodOverride, &[b"x-method-override"]),
            18 => (Name::PathOverride, &[b"x-forwarded-prefix"]),
            21 => (Name::MethodOverride, &[b"x-http-methodoverride"]),
            22 => (Name::MethodOverride, &[b"x-http-method-override"]),
            _ => return Name::Other,
        };
        let is_same =
            |byte: &u8, expected: &u8| byte.eq_ignore_ascii_case(expected) || (*byte, *expected) == (b'_', b'-');
        let is_one = candidates
            .iter()
            .any(|expected| text.iter().zip(*expected).all(|(byte, expected)| is_same(byte, expected)));
        if is_one { name } else { Name::Other }
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// A set of known names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Names(u32);

impl Names {
    /// No name.
    pub const NONE: Names = Names(0);

    /// The set of `names`.
    pub const fn new(names: &[Name]) -> Names {
        let (mut set, mut at) = (0, 0);
        while at < names.len() {
            set |= names[at].bit();
            at += 1;
        }
        Names(set)
    }

    /// The same set without `name`.
    pub const fn without(self, name: Name) -> Names {
        Names(self.0 & !name.bit())
    }

    /// Whether the set has `name`.
    #[inline]
    pub const fn has(self, name: Name) -> bool {
        self.0 & name.bit() != 0
    }
}

const CRLF: &[u8] = b"\r\n";
/// Room for what is usually appended to a head.
const APPENDED_BYTES: usize = 64;

/// Where a field stands in its head, in bytes from the head's beginning.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which field it is.
    pub name: Name,
    /// Where its name begins.
    pub name_at: u32,
    /// Bytes of its name.
    pub name_bytes: u32,
    /// Where its value begins, without blanks.
    pub value_at: u32,
    /// Bytes of its value, without blanks.
    pub value_bytes: u32,
}

/// The fields of a head, in the order in which they came.
#[derive(Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// Which names there may be.
    seen: u32,
}

impl Fields {
    /// The fields at `places` of the head `bytes`, which are copied.
    pub fn new(bytes: &[u8], places: Vec<Place>) -> Fields {
        let seen = places.iter().fold(0, |seen, place| seen | place.name.bit());
        let mut copy = Vec::with_capacity(bytes.len() + APPENDED_BYTES);
        copy.extend_from_slice(bytes);
        Fields { bytes: copy, places, seen }
    }

    /// About how many bytes [`Fields::write_to`] writes, for reserving room.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Writes one line for each field that is not among `left_out`. Lines that stand behind each other are copied as one piece.
    pub fn write_to(&self, out: &mut Vec<u8>, left_out: Names) {
        let mut run = 0..0;
        for place in self.places.iter().filter(|place| !left_out.has(place.name)) {
            let (begin, end) = (place.name_at as usize, (place.value_at + place.value_bytes) as usize);
            let is_plain = place.value_at == place.name_at + place.name_bytes + 2
                && self.bytes[place.value_at as usize - 1] == b' ';
            if is_plain && !run.is_empty() && run.end + CRLF.len() == begin {
                run.end = end;
                continue;
            }
            self.write_run(out, &run);
            run = 0..0;
            if is_plain {
                run = begin..end;
            } else {
                write_field(out, self.name(place), self.value(place));
            }
        }
        self.write_run(out, &run);
    }

    fn write_run(&self, out: &mut Vec<u8>, run: &Range<usize>) {
        if !run.is_empty() {
            out.extend_from_slice(&self.bytes[run.clone()]);
            out.extend_from_slice(CRLF);
        }
    }

    /// Whether there is a field `name`.
    pub fn has(&self, name: Name) -> bool {
        self.get(name).is_some()
    }

    /// Whether there is a field of one of `names`. Looks at one word, not at the fields.
    #[inline]
    pub fn has_any(&self, names: Names) -> bool {
        self.seen & names.0 != 0
    }

    /// The value of the first field `name`.
    #[inline]
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of all fields `name`, in order.
    #[inline]
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let places = if self.seen & name.bit() == 0 { &[] } else { &self.places[..] };
        places.iter().filter(move |place| place.name == name).map(|place| self.value(place))
    }

    /// Each field in order: its known name, its name as written, and its value.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Name, &[u8], &[u8])> {
        self.places.iter().map(|place| (place.name, self.name(place), self.value(place)))
    }

    /// Keeps the fields for which `is_kept` returns true; it gets the known name and the name as written.
    pub fn retain(&mut self, is_kept: impl Fn(Name, &[u8]) -> bool) {
        let bytes = &self.bytes;
        self.places.retain(|place| is_kept(place.name, &bytes[span(place.name_at, place.name_bytes)]));
        self.seen = self.places.iter().fold(0, |seen, place| seen | place.name.bit());
    }

    /// Removes all fields of `names`.
    #[inline]
    pub fn remove(&mut self, names: Names) {
        if self.has_any(names) {
            self.places.retain(|place| !names.has(place.name));
            self.seen &= !names.0;
        }
    }

    /// Appends a field. `name` must be a token. A value with a control byte would end the line early, so such a field is dropped.
    #[inline]
    pub fn append(&mut self, name: &str, value: &[u8]) {
        let is_safe = value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
        if !is_safe {
            return;
        }
        let name_at = self.bytes.len();
        // As a line, so that all of them can be written alike.
        write_field(&mut self.bytes, name.as_bytes(), value);
        let place = Place {
            name: Name::of(name.as_bytes()),
            name_at: short(name_at),
            name_bytes: short(name.len()),
            value_at: short(name_at + name.len() + 2),
            value_bytes: short(value.len()),
        };
        self.seen |= place.name.bit();
        self.places.push(place);
    }

    /// A part of the head that the fields were made of.
    pub(super) fn text(&self, span: &Range<usize>) -> &[u8] {
        &self.bytes[span.clone()]
    }

    #[inline]
    fn name(&self, place: &Place) -> &[u8] {
        &self.bytes[span(place.name_at, place.name_bytes)]
    }

    #[inline]
    fn value(&self, place: &Place) -> &[u8] {
        &self.bytes[span(place.value_at, place.value_bytes)]
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(_, name, value)| [name.escape_ascii(), value.escape_ascii()])).finish()
    }
}

#[inline]
fn span(at: u32, bytes: u32) -> Range<usize> {
    at as usize..at as usize + bytes as usize
}

/// A place in a head; heads are far shorter than 4 GiB.
#[inline]
pub(crate) fn short(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Writes the line `name: value CR LF`.
#[inline]
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(CRLF);
}

/// Writes the line of a `Content-Length` of `length` bytes.
pub fn write_length(out: &mut Vec<u8>, length: u64) {
    write_field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
}
