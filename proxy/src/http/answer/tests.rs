//! Heads and bodies, whole and in pieces.

use bytes::BytesMut;
use http::Method;

use super::{Decoder, Garbled, HeadScan, read_head};

/// Reads one answer to `method` that comes in pieces of `step` bytes: status, body with a mark for trailers, whether it has ended, whether it is the last.
fn read(text: &str, method: &Method, step: usize) -> Result<(u16, String, bool, bool), Garbled> {
    let (mut buffer, mut scan, mut head) = (BytesMut::new(), HeadScan::default(), None);
    let mut body = String::new();
    for piece in text.as_bytes().chunks(step) {
        buffer.extend_from_slice(piece);
        if head.is_none()
            && let Some(end) = scan.end(&buffer)?
        {
            head = Some(read_head(&buffer.split_to(end), method)?);
        }
        while let Some(head) = &mut head
            && let Some(frame) = head.body.next(&mut buffer)?
        {
            match frame.into_data() {
                Ok(data) => body.push_str(std::str::from_utf8(&data).expect("text")),
                Err(frame) => body.push_str(&format!("{:?}", frame.into_trailers().expect("trailers"))),
            }
        }
    }
    let head = head.ok_or(Garbled)?;
    assert!(buffer.is_empty() || head.body.has_ended(), "{text:?}: bytes are left over in the middle");
    Ok((head.parts.status.as_u16(), body, head.body.has_ended(), head.is_last))
}

fn read_in_all_pieces(text: &str, method: &Method) -> Result<(u16, String, bool, bool), Garbled> {
    let whole = read(text, method, usize::MAX);
    for step in 1..text.len() {
        assert_eq!(read(text, method, step), whole, "{text:?} in pieces of {step}");
    }
    whole
}

#[test]
fn an_answer_is_read_the_same_in_whatever_pieces_it_comes() {
    for (text, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", (200, "hello", true, false)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", (200, "hel", false, false)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", (200, "", true, true)),
        ("HTTP/1.1 204 No Content\r\n\r\n", (204, "", true, false)),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", (304, "", true, false)),
        ("HTTP/1.1 200\r\n\r\nto the end", (200, "to the end", false, true)),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab", (200, "ab", true, true)),
        ("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", (103, "", true, false)),
        ("HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n", (999, "", true, false)),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\nA;a=\"b\"\r\n0123456789\r\n0\r\n\r\n",
            (200, "hello0123456789", true, false),
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", (200, "hello", false, false)),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 7\r\nhost: b\r\n\r\n",
            (200, "a{\"x-sum\": \"7\"}", true, false),
        ),
    ] {
        let (status, body, has_ended, is_last) = expected;
        let expected = Ok((status, body.to_owned(), has_ended, is_last));
        assert_eq!(read_in_all_pieces(text, &Method::GET), expected, "{text:?}");
    }
    let head_only = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(read_in_all_pieces(head_only, &Method::HEAD), Ok((200, String::new(), true, false)));
}

#[test]
fn what_has_two_meanings_is_no_answer() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0x5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\n",
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0c\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\rc\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ] {
        assert_eq!(read_in_all_pieces(head, &Method::GET), Err(Garbled), "{head:?}");
    }
}

#[test]
fn chunks_that_are_none_end_the_body() {
    for chunks in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\na\r\n",
        "1\na\r\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "ffffffffffffffff\r\n",
        "1;\n\r\n",
        "1;a\rb\r\n",
        "0\r\nx y: 1\r\n\r\n",
        "0\r\nx: 1\n\r\n",
        "0\n\r\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(read_in_all_pieces(&text, &Method::GET), Err(Garbled), "{chunks:?}");
    }
    let extensions = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;{}\r\n", "x".repeat(5_000));
    assert_eq!(read(&extensions, &Method::GET, 1_000), Err(Garbled));
}

#[test]
fn a_head_without_an_end_is_not_waited_for() {
    let mut scan = HeadScan::default();
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    while head.len() < 40_000 {
        head.extend_from_slice(b"a: b\r\n");
    }
    assert_eq!(scan.end(&head), Err(Garbled));
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert!(read_head(fields.as_bytes(), &Method::GET).is_err());
}

#[test]
fn the_last_data_is_known_to_be_the_last() {
    let mut buffer = BytesMut::from("1\r\na\r\n0\r\n\r\n");
    let mut decoder = Decoder::Chunked(super::Chunks::default());
    assert!(decoder.next(&mut buffer).expect("a frame").is_some() && decoder.has_ended() && buffer.is_empty());
}
