//! One HTTP/1.1 exchange over a plain socket, for control ports and tests. It sends exactly the bytes it is given, and says how the
//! response ended.
//!
//! Blocking, one connection an exchange, no redirects, no reuse: it is no client library.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For connecting, and for each read: local programs respond at once or are broken.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Larger than any response here; more is an error.
const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One response, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// From the status line.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// As far as it came, without the framing of chunks.
    pub body: Vec<u8>,
    /// Whether it is whole, and if not, how it broke off.
    pub end: End,
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All that was announced has come; or nothing was announced and the connection was closed.
    Whole,
    /// The connection was closed before all had come that was announced.
    Truncated,
    /// The connection was torn down (RST).
    Reset,
}

impl Response {
    /// The first header of this name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET path`.
///
/// # Errors
/// As [`exchange`].
pub fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    ask(address, "GET", path, &[], "")
}

/// A request with these headers and this body, `host` being the address unless given.
///
/// # Errors
/// As [`exchange`].
pub fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Response> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request += &format!("host: {address}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        request += &format!("content-length: {}\r\n", body.len());
    }
    exchange(address, &format!("{request}\r\n{body}"))
}

/// Sends this text and reads one response.
///
/// # Errors
/// No connection, no complete head of a response, or silence for 20 s.
pub fn exchange(address: SocketAddr, request: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, WAIT_MAX)?;
    stream.set_read_timeout(Some(WAIT_MAX))?;
    stream.write_all(request.as_bytes())?;
    let mut reader = Reader { source: stream, bytes: Vec::new(), end: None };
    let (mut at, mut head) = (0, Head::default());
    // Informational responses come before the response.
    while head.status < 200 {
        let end = reader.find(b"\r\n\r\n", at)?.ok_or_else(|| unexpected("no head of a response"))?;
        head = Head::read(&String::from_utf8_lossy(&reader.bytes[at..end]))?;
        at = end + 4;
    }
    let Head { status, headers } = head;
    let mut response = Response { status, headers, body: Vec::new(), end: End::Whole };
    (response.body, response.end) = read_body(&mut reader, &response, at)?;
    Ok(response)
}

#[derive(Default)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(text: &str) -> io::Result<Head> {
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| unexpected("no status line"))?;
        let fields = lines.filter_map(|line| line.split_once(':'));
        let headers = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Head { status, headers })
    }
}

fn read_body(reader: &mut Reader<impl Read>, response: &Response, from: usize) -> io::Result<(Vec<u8>, End)> {
    if matches!(response.status, 204 | 304) {
        return Ok((Vec::new(), End::Whole));
    }
    if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return read_chunks(reader, from);
    }
    let length = response.header("content-length").map(str::parse::<usize>);
    let length = length.transpose().map_err(|_| unexpected("no content-length"))?;
    let is_whole = reader.fill(length.map_or(usize::MAX, |length| from + length))?;
    let to = length.map_or(reader.bytes.len(), |length| reader.bytes.len().min(from + length));
    // Without a length the end of the connection is the end of the body, if it is a clean one.
    let is_whole = is_whole || (length.is_none() && reader.end == Some(End::Truncated));
    let end = if is_whole { End::Whole } else { reader.end.unwrap_or(End::Truncated) };
    Ok((reader.bytes[from..to].to_vec(), end))
}

fn read_chunks(reader: &mut Reader<impl Read>, mut at: usize) -> io::Result<(Vec<u8>, End)> {
    let mut body = Vec::new();
    while let Some(line_end) = reader.find(b"\r\n", at)? {
        let size = String::from_utf8_lossy(&reader.bytes[at..line_end]).into_owned();
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| unexpected("no chunk size"))?;
        let from = line_end + 2;
        let is_whole = reader.fill(from + size + 2)?;
        let to = reader.bytes.len().min(from + size);
        body.extend_from_slice(&reader.bytes[from..to]);
        if !is_whole {
            break;
        }
        if size == 0 {
            return Ok((body, End::Whole));
        }
        at = from + size + 2;
    }
    Ok((body, reader.end.unwrap_or(End::Truncated)))
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// All bytes read so far, and how the connection ended if it has.
struct Reader<R> {
    source: R,
    bytes: Vec<u8>,
    end: Option<End>,
}

impl<R: Read> Reader<R> {
    /// Reads more; false at the end.
    fn more(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        if self.end.is_some() {
            return Ok(false);
        }
        match self.source.read(&mut piece) {
            Ok(0) => self.end = Some(End::Truncated),
            Ok(count) => self.bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.end = Some(End::Reset),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if self.bytes.len() > RESPONSE_BYTES_MAX {
            return Err(unexpected("a response of more than 64 MiB"));
        }
        Ok(self.end.is_none())
    }

    /// Reads until there are so many bytes; false if the end came first.
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        while self.bytes.len() < length && self.more()? {}
        Ok(self.bytes.len() >= length)
    }

    /// Reads until the needle is there; where it begins.
    fn find(&mut self, needle: &[u8], from: usize) -> io::Result<Option<usize>> {
        loop {
            let place = self.bytes[from..].windows(needle.len()).position(|window| window == needle);
            if let Some(place) = place {
                return Ok(Some(from + place));
            }
            if !self.more()? {
                return match self.end {
                    Some(End::Reset) if from == 0 => Err(ErrorKind::ConnectionReset.into()),
                    _ => Ok(None),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn exchange_with(text: &'static str) -> io::Result<Response> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).expect("a request");
            stream.write_all(text.as_bytes()).expect("the client listens");
        });
        let response = get(address, "/");
        server.join().expect("no panic");
        response
    }

    #[test]
    fn a_response_is_returned_with_how_it_ended() {
        let check = |text: &'static str, body: &str, end: End| {
            let response = exchange_with(text).expect("a response");
            assert_eq!((response.status, response.text().as_str(), response.end), (200, body, end), "{text:?}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", End::Whole);
        check("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", "ok", End::Truncated);
        check("HTTP/1.1 200 OK\r\n\r\nok", "ok", End::Whole);
        check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", End::Whole);
        check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", "ok", End::Truncated);
        check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nok", "ok", End::Truncated);
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        assert!(exchange_with("").is_err());
        assert!(exchange_with("nonsense\r\n\r\n").is_err());
    }
}
