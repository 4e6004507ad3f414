//! A strict reader of HTTP/1.1, as plain as possible: a whole text in, messages out. It shares no code with the proxy, so that the two do not share a mistake.

/// A message as its reader understands it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    /// The three parts of the first line.
    pub(crate) line: [String; 3],
    /// Names in lower case, values without blanks around them.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// Bytes from its first to its last.
    pub(crate) length: usize,
    /// Its end is the end of the connection.
    pub(crate) is_open_ended: bool,
}

/// What stands at the beginning of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    Message(Message),
    /// A message that has not come whole: its head, if that has.
    Part(Option<Message>),
    /// No message with exactly one meaning.
    Malformed,
}

/// How a head's body ends, by the rules of its side.
type BodyRule = fn(&Message, Framing) -> Option<Extent>;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Framing {
    length: Option<usize>,
    is_chunked: bool,
}

enum Extent {
    Bytes(usize),
    Chunks,
    Connection,
}

/// Reads one request.
pub(crate) fn request(text: &[u8]) -> Reading {
    message(text, |head, framing| {
        let [method, target, version] = &head.line;
        let hosts = head.values("host").count();
        let is_one = hosts == 1 || (hosts == 0 && version == "HTTP/1.0");
        let is_version = matches!(version.as_str(), "HTTP/1.1" | "HTTP/1.0");
        let is_target = !target.is_empty() && target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let is_old_and_chunked = framing.is_chunked && version == "HTTP/1.0";
        if !is_one || !is_version || !is_target || !is_token(method.as_bytes()) || is_old_and_chunked {
            return None;
        }
        Some(if framing.is_chunked { Extent::Chunks } else { Extent::Bytes(framing.length.unwrap_or(0)) })
    })
}

/// Reads one response to a request that is no HEAD. Informational responses are messages like others.
pub(crate) fn response(text: &[u8]) -> Reading {
    message(text, |head, framing| {
        let [version, status, _] = &head.line;
        let is_version = matches!(version.as_str(), "HTTP/1.1" | "HTTP/1.0");
        let is_status = status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit()) && status.as_str() >= "100";
        if !is_version || !is_status || (framing.is_chunked && version == "HTTP/1.0") {
            return None;
        }
        if status.starts_with('1') || matches!(status.as_str(), "204" | "304") {
            return Some(Extent::Bytes(0));
        }
        Some(match framing.length {
            _ if framing.is_chunked => Extent::Chunks,
            Some(length) => Extent::Bytes(length),
            None => Extent::Connection,
        })
    })
}

impl Message {
    /// The values of the fields called `name`, in lower case.
    pub(crate) fn values<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m [u8]> {
        self.fields.iter().filter(move |field| field.0 == name).map(|field| field.1.as_slice())
    }
}

fn message(text: &[u8], rule: BodyRule) -> Reading {
    let Some(head_length) = text.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
        return Reading::Part(None);
    };
    let Some(mut message) = head(&text[..head_length - 2]) else {
        return Reading::Malformed;
    };
    let Some(framing) = framing(&message) else {
        return Reading::Malformed;
    };
    let rest = &text[head_length..];
    let (body, length) = match rule(&message, framing) {
        None => return Reading::Malformed,
        Some(Extent::Bytes(length)) if rest.len() < length => return Reading::Part(Some(message)),
        Some(Extent::Bytes(length)) => (rest[..length].to_vec(), length),
        Some(Extent::Connection) => {
            message.is_open_ended = true;
            (rest.to_vec(), rest.len())
        }
        Some(Extent::Chunks) => match chunks(rest) {
            Ok(Some(whole)) => whole,
            Ok(None) => return Reading::Part(Some(message)),
            Err(()) => return Reading::Malformed,
        },
    };
    (message.body, message.length) = (body, head_length + length);
    Reading::Message(message)
}

/// The lines of a head, each with its end.
fn head(text: &[u8]) -> Option<Message> {
    let text = text.strip_suffix(b"\r\n")?;
    let mut lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let count = text.windows(2).filter(|window| window == b"\r\n").count();
    let plain = |line: &[u8]| line.iter().all(|b| *b == b'\t' || !b.is_ascii_control());
    // Each line feed has its carriage return, and there is no other of either.
    let is_clean =
        text.iter().filter(|b| **b == b'\n').count() == count && text.iter().filter(|b| **b == b'\r').count() == count;
    let first = String::from_utf8_lossy(lines.next()?).into_owned();
    let mut parts = first.splitn(3, ' ').map(str::to_owned);
    let line = [parts.next()?, parts.next()?, parts.next().unwrap_or_default()];
    let mut fields = Vec::new();
    for line in lines {
        let colon = line.iter().position(|b| *b == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !is_token(name) || !plain(value) {
            return None;
        }
        fields.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.trim_ascii().to_vec()));
    }
    (is_clean && plain(first.as_bytes())).then_some(Message {
        line,
        fields,
        body: Vec::new(),
        length: 0,
        is_open_ended: false,
    })
}

fn framing(message: &Message) -> Option<Framing> {
    let lengths: Vec<_> = message.values("content-length").collect();
    let codings: Vec<_> = message.values("transfer-encoding").collect();
    let digits = |text: &[u8]| {
        (!text.is_empty() && text.iter().all(u8::is_ascii_digit)).then(|| String::from_utf8_lossy(text).parse().ok())?
    };
    let length = match lengths[..] {
        [] => None,
        [one] => Some(digits(one)?),
        _ => return None,
    };
    let is_chunked = match codings[..] {
        [] => false,
        [one] if one.eq_ignore_ascii_case(b"chunked") => true,
        _ => return None,
    };
    (length.is_none() || !is_chunked).then_some(Framing { length, is_chunked })
}

/// The data of chunks and how long they are with their framing; `None` if they have not come whole.
fn chunks(text: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ()> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = line(&text[at..])? else { return Ok(None) };
        at += line.len() + 2;
        let size = line.split(|b| *b == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size).map_err(|_| ())?.trim_end_matches([' ', '\t']);
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        let size = usize::from_str_radix(size, 16).map_err(|_| ())?;
        if size == 0 {
            break;
        }
        let Some(end) = at.checked_add(size).filter(|end| *end <= text.len()) else { return Ok(None) };
        body.extend_from_slice(&text[at..end]);
        at = end;
        match &text[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(()),
        }
    }
    loop {
        let Some(trailer) = line(&text[at..])? else { return Ok(None) };
        at += trailer.len() + 2;
        if trailer.is_empty() {
            return Ok(Some((body, at)));
        }
        let colon = trailer.iter().position(|b| *b == b':').ok_or(())?;
        if !is_token(&trailer[..colon]) {
            return Err(());
        }
    }
}

/// The line at the beginning of `text` without its end; `None` if it has not come whole.
fn line(text: &[u8]) -> Result<Option<&[u8]>, ()> {
    let Some(end) = text.iter().position(|b| *b == b'\n') else { return Ok(None) };
    let line = text[..end].strip_suffix(b"\r").ok_or(())?;
    if line.iter().any(|b| b.is_ascii_control() && *b != b'\t') { Err(()) } else { Ok(Some(line)) }
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_whole_or_a_part_or_none() {
        let whole = |text: &str| match request(text.as_bytes()) {
            Reading::Message(message) => Some((message.length, message.body)),
            _ => None,
        };
        let get = "GET / HTTP/1.1\r\nHost: a\r\n";
        assert_eq!(whole(&format!("{get}\r\nrest")), Some((get.len() + 2, Vec::new())));
        assert_eq!(whole(&format!("{get}Content-Length: 2\r\n\r\nabc")).map(|(_, body)| body), Some(b"ab".to_vec()));
        let chunked = format!("{get}Transfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\nt: u\r\n\r\n");
        assert_eq!(whole(&chunked), Some((chunked.len(), b"abc".to_vec())));
        for length in 0..chunked.len() {
            assert!(matches!(request(&chunked.as_bytes()[..length]), Reading::Part(_)), "{length}");
        }
        for malformed in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        ] {
            assert_eq!(request(malformed.as_bytes()), Reading::Malformed, "{malformed}");
        }
    }
}
