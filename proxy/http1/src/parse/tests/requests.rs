//! What clients send.

use super::*;

/// A request of these fields, each with its line end.
fn with(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

/// A chunked body after its head, and how long that head is.
fn chunked(body: &str) -> (Vec<u8>, usize) {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    (format!("{head}{body}").into_bytes(), head.len())
}

#[test]
fn plain_requests_go_on() {
    for (bytes, messages) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("GET / HTTP/1.0\r\n\r\n", 1),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("get /x?y HTTP/1.1\r\nhost:a:80\r\nx:\r\ny: \t \r\nz:\t1\t2 \r\n\r\n", 1),
        ("GET http://b/ HTTP/1.1\r\nHOST: [::1]:8080\r\n\r\n", 1),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 1),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        (
            "POST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH:\t 007\t\r\n\r\n\r\n\0\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            2,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
            2,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{e4}\u{fc}~!\r\n\r\n", 1),
    ] {
        accepts(bytes.as_bytes(), messages);
    }
    accepts(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\x80\r\n\r\n", 1);
}

#[test]
fn a_request_line_has_one_reading() {
    use Refusal::{BadMethod, BadRequestLine, BadTarget, BadVersion, BareLf, EmptyLines};
    for (line, why) in [
        ("\r\n\r\nGET / HTTP/1.1\r\n", EmptyLines),
        ("\nGET / HTTP/1.1\r\n", BareLf),
        (" GET / HTTP/1.1\r\n", BadMethod),
        ("G\x00T / HTTP/1.1\r\n", BadMethod),
        ("G(T / HTTP/1.1\r\n", BadMethod),
        ("\u{e4} / HTTP/1.1\r\n", BadMethod),
        ("\x16\x03\x01\x02", BadMethod),
        ("GET\t/ HTTP/1.1\r\n", BadMethod),
        ("GET\r\n", BadRequestLine),
        ("GET /\r\n", BadRequestLine),
        ("GET / \r\n", BadRequestLine),
        ("GET / HT\r\n", BadRequestLine),
        ("GET  / HTTP/1.1\r\n", BadTarget),
        ("GET /  HTTP/1.1\r\n", BadRequestLine),
        ("GET / HTTP/1.1 \r\n", BadRequestLine),
        ("GET / HTTP/1.1\r\r\n", BadRequestLine),
        ("GET / HTTP/1.1 x\r\n", BadRequestLine),
        ("GET / HTTP/1.11\r\n", BadRequestLine),
        ("GET / http/1.1\r\n", BadRequestLine),
        ("GET / XTTP/1.1\r\n", BadRequestLine),
        ("GET / HTTP/2\r\n", BadRequestLine),
        ("GET / HTTP/1,1\r\n", BadRequestLine),
        ("GET / HTTP/2.0\r\n", BadVersion),
        ("GET / HTTP/1.2\r\n", BadVersion),
        ("GET / HTTP/0.9\r\n", BadVersion),
        ("GET / HTTP/1.1\n", BareLf),
        ("\rGET / HTTP/1.1\r\n", BadRequestLine),
        ("GET /a b HTTP/1.1\r\n", BadRequestLine),
        ("GET /a#b HTTP/1.1\r\n", BadTarget),
        ("GET /\x7f HTTP/1.1\r\n", BadTarget),
        ("GET /\u{e4} HTTP/1.1\r\n", BadTarget),
        ("GET * HTTP/1.1\r\n", BadTarget),
        ("GET a:80 HTTP/1.1\r\n", BadTarget),
        ("CONNECT / HTTP/1.1\r\n", Refusal::BadAuthority),
        ("GET http://u@b/ HTTP/1.1\r\n", Refusal::UserInformation),
        ("GET http://b:x/ HTTP/1.1\r\n", Refusal::BadAuthority),
    ] {
        refuses(format!("{line}Host: a\r\n\r\n").as_bytes(), why, 0, 0, Part::Head);
    }
}

#[test]
fn a_field_has_one_reading() {
    use Refusal::{BadFieldName, BareLf, BlankBeforeColon, ControlInValue, FoldedLine};
    for (fields, why) in [
        ("X : 1\r\n", BlankBeforeColon),
        ("X\t: 1\r\n", BlankBeforeColon),
        ("X y: 1\r\n", BadFieldName),
        (": 1\r\n", BadFieldName),
        ("X\r\n", BadFieldName),
        ("X(: 1\r\n", BadFieldName),
        ("X\0: 1\r\n", BadFieldName),
        ("\u{e4}: 1\r\n", BadFieldName),
        ("\rX: 1\r\n", BadFieldName),
        (" X: 1\r\n", FoldedLine),
        ("X: 1\r\n 2\r\n", FoldedLine),
        ("X: 1\r\n\t2\r\n", FoldedLine),
        ("X: 1\n", BareLf),
        ("X\n", BareLf),
        ("\n", BareLf),
        ("X: 1\r2\r\n", ControlInValue),
        ("X: 1\r\r\n", ControlInValue),
        ("X: \0\r\n", ControlInValue),
        ("X: \x7f\r\n", ControlInValue),
        ("X: a\x0bb\r\n", ControlInValue),
        ("X: \x1b[0m\r\n", ControlInValue),
    ] {
        refuses(&with(fields), why, 0, 0, Part::Head);
    }
}

#[test]
fn a_request_has_one_host() {
    use Refusal::{BadHost, NoHost, SeveralHosts};
    for (fields, why) in [
        ("", NoHost),
        ("X-Host: a\r\n", NoHost),
        ("Host: a\r\nhost: a\r\n", SeveralHosts),
        ("Host: a\r\nHost: b\r\n", SeveralHosts),
        ("Host:\r\n", BadHost),
        ("Host: a, b\r\n", BadHost),
        ("Host: a b\r\n", BadHost),
        ("Host: u@a\r\n", BadHost),
        ("Host: a/\r\n", BadHost),
        ("Host: a:\r\n", BadHost),
        ("Host: a:99999\r\n", BadHost),
        ("Host: http://a\r\n", BadHost),
        ("Host: \u{e4}\r\n", BadHost),
    ] {
        for target in ["/", "http://b/"] {
            refuses(format!("GET {target} HTTP/1.1\r\n{fields}\r\n").as_bytes(), why, 0, 0, Part::Head);
        }
    }
    refuses(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", SeveralHosts, 0, 0, Part::Head);
}

#[test]
fn a_request_has_one_framing() {
    use Refusal::{BadEncoding, BadLength, EncodingInOldVersion, LengthBesideEncoding, SeveralLengths, UnexpectedBody};
    for (fields, why) in [
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", LengthBesideEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", LengthBesideEncoding),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", SeveralLengths),
        ("Content-Length: 1\r\ncontent-length: 2\r\n", SeveralLengths),
        ("Content-Length: 1, 1\r\n", BadLength),
        ("Content-Length: 1,\r\n", BadLength),
        ("Content-Length:\r\n", BadLength),
        ("Content-Length: +1\r\n", BadLength),
        ("Content-Length: -1\r\n", BadLength),
        ("Content-Length: 0x1\r\n", BadLength),
        ("Content-Length: 1_0\r\n", BadLength),
        ("Content-Length: 1 0\r\n", BadLength),
        ("Content-Length: \"1\"\r\n", BadLength),
        ("Content-Length: 1.0\r\n", BadLength),
        ("Content-Length: \u{661}\r\n", BadLength),
        ("Content-Length: 9223372036854775808\r\n", BadLength),
        ("Content-Length: 18446744073709551617\r\n", BadLength),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BadEncoding),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", BadEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", BadEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", BadEncoding),
        ("Transfer-Encoding: chunked, identity\r\n", BadEncoding),
        ("Transfer-Encoding: gzip\r\n", BadEncoding),
        ("Transfer-Encoding: identity\r\n", BadEncoding),
        ("Transfer-Encoding:\r\n", BadEncoding),
        ("Transfer-Encoding: xchunked\r\n", BadEncoding),
        ("Transfer-Encoding: chunked;q=1\r\n", BadEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", BadEncoding),
        ("Transfer-Encoding: chunked,\r\n", BadEncoding),
        ("Transfer-Encoding: chun\u{212a}ed\r\n", BadEncoding),
    ] {
        refuses(&with(fields), why, 0, 0, Part::Head);
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refuses(old, EncodingInOldVersion, 0, 0, Part::Head);
    for framing in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
        let bytes = format!("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{framing}\r\n\r\n");
        refuses(bytes.as_bytes(), UnexpectedBody, 0, 0, Part::Head);
    }
    accepts(&with("Content-Lengths: 1\r\nX-Transfer-Encoding: gzip\r\nContent_Length: 7\r\n"), 1);
}

#[test]
fn chunks_have_one_reading() {
    for body in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "1\r\na\r\n0\r\n\r\n",
        "A\r\n0123456789\r\n00a\r\n0\r\n\r\n45678\r\n0\r\n\r\n",
        "1;a\r\na\r\n0;b=c\r\n\r\n",
        "1;a=\"b;\\\"\\\\ \t\u{e4}\";c;d=e\r\na\r\n0\r\n\r\n",
        "1 \t; a = b ; c\r\na\r\n0\r\n\r\n",
        "0\r\nX: 1\r\ny:\t\u{e4}\r\n\r\n",
    ] {
        accepts(&chunked(body).0, 1);
    }
    use Refusal::{BadChunkEnd, BadChunkExtension, BadChunkSize, BadTrailer, ChunkTooLarge};
    for (body, good, why) in [
        ("\r\n", 0, BadChunkSize),
        ("g\r\n", 0, BadChunkSize),
        ("0x1\r\n", 1, BadChunkSize),
        ("-1\r\n", 0, BadChunkSize),
        ("+1\r\n", 0, BadChunkSize),
        (" 1\r\n", 0, BadChunkSize),
        ("1\n", 1, BadChunkSize),
        ("1\ra", 2, BadChunkSize),
        ("1_0\r\n", 1, BadChunkSize),
        ("1,\r\n", 1, BadChunkSize),
        ("1 \r\n", 2, BadChunkExtension),
        ("1 1\r\n", 2, BadChunkExtension),
        ("1;\r\n", 2, BadChunkExtension),
        ("1;a \r\n", 4, BadChunkExtension),
        ("1;a b\r\n", 4, BadChunkExtension),
        ("1;a=\r\n", 4, BadChunkExtension),
        ("1;a=b\n", 5, BadChunkExtension),
        ("1;a\nb\r\n", 3, BadChunkExtension),
        ("1;a=\"b\r\n", 6, BadChunkExtension),
        ("1;a=\"b\"c\r\n", 7, BadChunkExtension),
        ("1;a=\"\\\n\"\r\n", 6, BadChunkExtension),
        ("1;a\0\r\n", 3, BadChunkExtension),
        ("1;a=b=c\r\n", 5, BadChunkExtension),
        ("8000000000000000\r\n", 15, ChunkTooLarge),
        ("10000000000000001\r\n", 16, ChunkTooLarge),
        ("00000000000000001\r\n", 16, ChunkTooLarge),
        ("1\r\nab\r\n", 4, BadChunkEnd),
        ("1\r\na\n", 4, BadChunkEnd),
        ("1\r\na\rb", 5, BadChunkEnd),
        ("2\r\na\r\n0", 5, BadChunkEnd),
        ("0\r\nX : 1\r\n\r\n", 4, BadTrailer),
        ("0\r\n X: 1\r\n\r\n", 3, BadTrailer),
        ("0\r\nX: 1\r\n 2\r\n\r\n", 9, BadTrailer),
        ("0\r\nX: 1\n\r\n", 7, BadTrailer),
        ("0\r\nX: \0\r\n\r\n", 6, BadTrailer),
        ("0\r\n\n", 3, BadTrailer),
        ("0\r\n\rX", 4, BadTrailer),
        ("0\r\nX: 1\rY", 8, BadTrailer),
        ("0\r\n:\r\n\r\n", 3, BadTrailer),
        ("0\r\nX\r\n\r\n", 4, BadTrailer),
        ("0\r\nHost: b\r\n\r\n", 7, BadTrailer),
        ("0\r\nContent-LENGTH: 1\r\n\r\n", 17, BadTrailer),
        ("0\r\ntransfer-encoding: chunked\r\n\r\n", 20, BadTrailer),
        ("0\r\n\r\nX", 5, Refusal::BadMethod),
    ] {
        let (bytes, head) = chunked(body);
        match why {
            Refusal::BadMethod => refuses(&[&bytes, &b"(\r\n"[..]].concat()[..], why, head + good, 1, Part::Head),
            _ => refuses(&bytes, why, head + good, 0, Part::Body),
        }
    }
}

#[test]
fn the_refused_one_of_several_is_told_by_its_number() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let upload = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n";
    let bytes = format!("{good}{good}GET / HTTP/1.1\r\n\r\n{good}");
    refuses(bytes.as_bytes(), Refusal::NoHost, 2 * good.len(), 2, Part::Head);
    let bytes = format!("{good}{upload}ab{good}");
    refuses(bytes.as_bytes(), Refusal::BadChunkEnd, good.len() + upload.len() + 1, 1, Part::Body);
}

/// Lines of exactly the limit go on, one byte more is refused, in the line and in the head as a whole.
#[test]
fn limits_are_limits() {
    let limits = Limits { first_line_bytes: 40, field_bytes: 30, head_bytes: 100, fields: 4, ..Limits::default() };
    let check = |bytes: String, expected: Option<Refusal>| {
        let ((passed, refused), _) = verdict(|| Inspector::requests(limits), bytes.as_bytes());
        assert_eq!(refused.map(|refused| refused.why), expected, "{bytes}");
        assert_eq!(passed.len(), if expected.is_some() { 0 } else { bytes.len() }, "{bytes}");
    };
    let line = |n: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(n - "GET / HTTP/1.1\r\n".len()));
    let field = |n: usize| format!("x:{}\r\n", "y".repeat(n - 4));
    let host = "Host: a\r\n"; // 9 bytes
    check(format!("{}{host}\r\n", line(40)), None);
    check(format!("{}{host}\r\n", line(41)), Some(Refusal::RequestLineTooLong));
    check("A".repeat(40), Some(Refusal::RequestLineTooLong));
    check("A".repeat(39) + "\n", Some(Refusal::BadRequestLine));
    check(format!("{}{host}{}\r\n", line(20), field(30)), None);
    check(format!("{}{host}{}\r\n", line(20), field(31)), Some(Refusal::FieldTooLong));
    check(format!("{}{host}{}{}\r\n", line(40), field(30), field(19)), None);
    check(format!("{}{host}{}{}\r\n", line(40), field(30), field(20)), Some(Refusal::HeadTooLarge));
    check(format!("{}{host}{}{}", line(40), field(30), field(22)), Some(Refusal::HeadTooLarge));
    check(format!("{}{host}{}\r\n", line(20), field(6).repeat(3)), None);
    check(format!("{}{host}{}\r\n", line(20), field(6).repeat(4)), Some(Refusal::TooManyFields));
}

#[test]
fn extensions_and_trailers_have_limits() {
    let limits = Limits { extension_bytes: 10, trailer_bytes: 20, trailer_fields: 3, ..Limits::default() };
    let check = |body: &str, expected: Option<Refusal>| {
        let ((_, refused), _) = verdict(|| Inspector::requests(limits), &chunked(body).0);
        assert_eq!(refused.map(|refused| refused.why), expected, "{body}");
    };
    // What is between size and line feed counts: "abcd\r" twice.
    check("1;abcd\r\na\r\n0;abcd\r\n\r\n", None);
    check("1;abcd\r\na\r\n0;abcde\r\n\r\n", Some(Refusal::ChunkExtensionsTooLong));
    check("0\r\na: b\r\na: b\r\na: b\r\n\r\n", None);
    check("0\r\na:\r\na:\r\na:\r\na:\r\n\r\n", Some(Refusal::TrailersTooLarge));
    check("0\r\na: 5678901234567890\r\n\r\n", Some(Refusal::TrailersTooLarge));
}
