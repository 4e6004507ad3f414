//! What servers send.

use super::*;

fn check(request: RequestKind, bytes: &str, expected: Result<usize, (usize, Refusal, Part)>) {
    let new = || {
        let mut inspector = Inspector::responses(Limits::default());
        inspector.expect_response(request);
        inspector
    };
    let ((passed, refused), inspector) = verdict(new, bytes.as_bytes());
    let found = match refused {
        None => Ok(passed.len()),
        Some(refused) => Err((passed.len(), refused.why, refused.part)),
    };
    assert_eq!(found, expected, "{request:?} {bytes:?}");
    assert!(inspector.complete_heads <= 1);
}

fn takes(request: RequestKind, bytes: &str) {
    check(request, bytes, Ok(bytes.len()));
}

fn refuses(request: RequestKind, bytes: &str, why: Refusal) {
    check(request, bytes, Err((0, why, Part::Head)));
}

#[test]
fn responses_with_one_meaning_are_accepted() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 999 \u{e4}\t!\r\nHost: x y\r\n\r\nuntil the end\0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n",
        "HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
    ] {
        takes(GET, bytes);
    }
    takes(HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n");
    takes(HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    takes(CONNECT, "HTTP/1.1 200 OK\r\n\r\n\0\0anything");
    takes(CONNECT, "HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\na");
    takes(UPGRADE, "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\0\0anything");
    takes(UPGRADE, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
}

#[test]
fn responses_with_another_meaning_are_not() {
    use Refusal::*;
    for (bytes, why) in [
        ("oops", BadStatusLine),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", BadStatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n", BadStatusLine),
        ("HTTP/1.1 2\r\n\r\n", BadStatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", BadStatusLine),
        ("HTTP/1.1 +20 OK\r\n\r\n", BadStatusLine),
        ("HTTP/1.1 099 OK\r\n\r\n", BadStatusLine),
        ("HTTP/1.1  200 OK\r\n\r\n", BadStatusLine),
        ("HTTP/1.1\t200 OK\r\n\r\n", BadStatusLine),
        ("HTTP/1.1 200\tOK\r\n\r\n", BadStatusLine),
        ("HTTP/1.1 200 O\0K\r\n\r\n", BadStatusLine),
        ("HTTP/1.1 200 OK\r \r\n\r\n", BadStatusLine),
        ("HTTP/2.0 200 OK\r\n\r\n", BadStatusLine),
        ("HTTP/1.1 200 OK\n\n", BareLf),
        ("HTTP/1.1 200 OK\r\nX: y\n\n", BareLf),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", BlankBeforeColon),
        ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", FoldedLine),
        ("HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n", ControlInValue),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", BadLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", BadLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", SeveralLengths),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", LengthBesideEncoding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", BadEncoding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", BadEncoding),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", EncodingInOldVersion),
        ("HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\n", UnexpectedBody),
        ("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", UnexpectedBody),
        ("HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\n", UnexpectedBody),
        ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", UnexpectedUpgrade),
        ("HTTP/1.1 199 What\r\n\r\n", BadInformational),
    ] {
        refuses(GET, bytes, why);
    }
    refuses(HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", LengthBesideEncoding);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let broken = format!("{head}2\r\nabc\r\n");
    check(GET, &broken, Err((head.len() + 5, BadChunkEnd, Part::Body)));
}

#[test]
fn informational_responses_are_few() {
    let informational = "HTTP/1.1 102 Processing\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    takes(GET, &(informational.repeat(8) + last));
    check(
        GET,
        &(informational.repeat(9) + last),
        Err((8 * informational.len(), Refusal::BadInformational, Part::Head)),
    );
}

#[test]
fn there_is_one_final_response_to_one_request() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    check(GET, &response.repeat(2), Err((response.len(), Refusal::UnexpectedResponse, Part::Head)));
    let mut inspector = Inspector::responses(Limits::default());
    for ordinal in 0..3 {
        inspector.expect_response(GET);
        inspector.feed(response.as_bytes());
        assert_eq!((inspector.complete_heads, inspector.is_idle()), (ordinal + 1, true));
    }
    inspector.feed(b"x");
    assert_eq!(inspector.refused, Some(Refused { why: Refusal::UnexpectedResponse, ordinal: 3, part: Part::Head }));
}
