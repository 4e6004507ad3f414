//! Server connections: what comes next, the bytes of responses, held bodies, clients that disconnect.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use outrigger_http1::encode::{BodyLength, Framing, WrongLength};
use outrigger_http1::head::{RequestHead, ResponseHead};
use outrigger_http1::parse::{BodyError, Limits, Refusal};
use outrigger_http1::server::{Next, OutgoingResponse, ServerConn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::trailers;

type Server = ServerConn<DuplexStream>;

/// Longer than it takes until a close over loopback is seen.
const NOTICED: Duration = Duration::from_millis(400);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A connection on which `text` has arrived.
async fn having(text: &str) -> (Server, DuplexStream) {
    let (near, mut far) = duplex(1 << 16);
    far.write_all(text.as_bytes()).await.expect("room");
    (Server::new(near, Limits::default()), far)
}

async fn next(conn: &mut Server) -> Next {
    poll_fn(|cx| conn.poll_request(cx)).await
}

async fn head(conn: &mut Server) -> RequestHead {
    match next(conn).await {
        Next::Request(head) => head,
        other => panic!("no request: {other:?}"),
    }
}

async fn respond(conn: &mut Server, length: BodyLength) -> Option<Framing> {
    let head = ResponseHead::from_status(StatusCode::OK);
    conn.begin_response(&OutgoingResponse { head: &head, length, date: None, closes: false })
}

/// All that is written until the connection ends.
async fn written(mut conn: Server, mut far: DuplexStream) -> String {
    poll_fn(|cx| conn.poll_flush(cx)).await.expect("it is read");
    drop(conn);
    let mut text = String::new();
    far.read_to_string(&mut text).await.expect("text");
    text
}

#[tokio::test]
async fn what_comes_next_is_a_request_or_a_refusal_or_an_end() {
    let (mut conn, mut far) = having(&format!("{GET}{GET}GET / HT")).await;
    head(&mut conn).await;
    head(&mut conn).await;
    assert!(poll_fn(|cx| Poll::Ready(conn.poll_request(cx).is_pending())).await && conn.has_partial_head());
    far.write_all(b"TP/1.1\r\n\r\n").await.expect("room");
    assert!(matches!(next(&mut conn).await, Next::Refused(Refusal::NoHost)));

    let (mut conn, far) = having(GET).await;
    drop(far);
    head(&mut conn).await;
    assert!(matches!(next(&mut conn).await, Next::End));

    let (mut conn, far) = having("GET /").await;
    drop(far);
    assert!(matches!(next(&mut conn).await, Next::Broken));
}

#[tokio::test]
async fn a_response_is_framed_for_its_request() {
    let head_with_length = |status: u16| {
        let mut head = ResponseHead::from_status(StatusCode::from_u16(status).expect("a status"));
        head.fields.append("content-length", b"9");
        head
    };
    let (none, two, unknown) = (BodyLength::None, BodyLength::Known(2), BodyLength::Unknown);
    for (request, status, length, expected) in [
        ("GET / HTTP/1.1\r\nHost: a", 200, none, "200 OK\r\ncontent-length: 0\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a", 200, two, "200 OK\r\ncontent-length: 2\r\n\r\nok"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers",
            200,
            unknown,
            "200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nsum: 1\r\n\r\n",
        ),
        ("GET / HTTP/1.1\r\nHost: a", 200, unknown, "200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("GET / HTTP/1.0\r\nConnection: keep-alive", 200, unknown, "200 OK\r\nconnection: close\r\n\r\nok"),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive",
            200,
            two,
            "200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok",
        ),
        ("HEAD / HTTP/1.1\r\nHost: a", 200, unknown, "200 OK\r\ncontent-length: 9\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a", 304, none, "304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a", 204, none, "204 No Content\r\n\r\n"),
    ] {
        let (mut conn, far) = having(&format!("{request}\r\n\r\n")).await;
        head(&mut conn).await;
        let response = head_with_length(status);
        let outgoing = OutgoingResponse { head: &response, length, date: None, closes: false };
        if conn.begin_response(&outgoing).is_some() {
            assert_eq!(conn.push(Bytes::from_static(b"ok")), Ok(()));
            assert_eq!(conn.end(Some(&trailers())), Ok(()));
        }
        assert_eq!(written(conn, far).await, format!("HTTP/1.1 {expected}"), "{request}");
    }
}

#[tokio::test]
async fn a_date_and_the_end_of_the_connection_are_announced_when_asked_for() {
    let (mut conn, far) = having(GET).await;
    head(&mut conn).await;
    let mut hints = ResponseHead::from_status(StatusCode::EARLY_HINTS);
    hints.fields.append("link", b"x");
    conn.send_informational(&hints);
    let response = ResponseHead::from_status(StatusCode::OK);
    let outgoing = OutgoingResponse { head: &response, length: BodyLength::None, date: Some(b"today"), closes: true };
    assert_eq!(conn.begin_response(&outgoing), None);
    let expected = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                    HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(written(conn, far).await, expected);
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_is_seen() {
    for (data, pushed, ended) in [("abc", Err(WrongLength), None), ("a", Ok(()), Some(Err(WrongLength)))] {
        let (mut conn, _far) = having(GET).await;
        head(&mut conn).await;
        respond(&mut conn, BodyLength::Known(2)).await;
        assert_eq!(conn.push(Bytes::from(data)), pushed);
        assert!(ended.is_none_or(|ended| conn.end(None) == ended));
    }
    let (mut conn, _far) = having(GET).await;
    head(&mut conn).await;
    assert_eq!(respond(&mut conn, BodyLength::None).await, None);
    assert_eq!(conn.push(Bytes::from_static(b"a")), Err(WrongLength));
}

#[tokio::test]
async fn a_client_that_holds_its_body_back_is_asked_for_it_once() {
    let text = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (mut conn, mut far) = having(text).await;
    head(&mut conn).await;
    assert!(conn.owes_continue() && conn.body_length() == BodyLength::Known(2));
    for _ in 0..2 {
        assert!(poll_fn(|cx| Poll::Ready(conn.poll_body(cx).is_pending())).await);
    }
    assert!(!conn.owes_continue());
    far.write_all(b"ok").await.expect("room");
    let frame = poll_fn(|cx| conn.poll_body(cx)).await.expect("data").expect("a whole one");
    assert_eq!(frame.into_data().ok().as_deref(), Some(&b"ok"[..]));
    assert!(conn.has_body_ended());
    assert_eq!(written(conn, far).await, "HTTP/1.1 100 Continue\r\n\r\n");

    let (mut conn, far) = having(text).await;
    head(&mut conn).await;
    respond(&mut conn, BodyLength::None).await;
    assert!(poll_fn(|cx| Poll::Ready(conn.poll_body(cx).is_pending())).await);
    assert_eq!(written(conn, far).await, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "no 100 behind the response");
}

#[tokio::test]
async fn a_body_breaks_off_or_is_malformed() {
    for (body, expected) in [("2\r\nab", BodyError::Truncated), ("x", BodyError::Malformed(Refusal::BadChunkSize))] {
        let text = format!("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let (mut conn, far) = having(&text).await;
        drop(far);
        head(&mut conn).await;
        let error = loop {
            match poll_fn(|cx| conn.poll_body(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("it has no end"),
            }
        };
        assert_eq!(error, expected);
    }
}

#[tokio::test]
async fn a_client_that_only_ends_its_sending_side_still_gets_its_response() {
    for (request, leaves, is_gone) in [
        (GET, false, false),
        (GET, true, true),
        // Nothing may be written to it before its response, so this cannot be found out.
        ("GET / HTTP/1.0\r\n\r\n", false, true),
    ] {
        let (mut conn, mut far) = having(request).await;
        head(&mut conn).await;
        assert!(poll_fn(|cx| Poll::Ready(conn.poll_disconnected(cx).is_pending())).await, "it is still there");
        far.shutdown().await.expect("a pipe");
        let far = (!leaves).then_some(far);
        let found = poll_fn(|cx| Poll::Ready(conn.poll_disconnected(cx).is_ready())).await;
        assert_eq!(found, is_gone, "{request}");
        if !is_gone {
            assert!(conn.has_shut_down());
            respond(&mut conn, BodyLength::None).await;
            let text = written(conn, far.expect("it is there")).await;
            assert_eq!(text, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    }
}

/// How a client that has sent everything it wants to send goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    Stays,
    /// It sends no more, and reads.
    ShutsDown,
    Closes,
    Resets,
}

/// Over TCP, where the end of what a client sends can be seen without reading up to it.
#[tokio::test]
async fn a_client_that_leaves_is_noticed_whatever_lies_unread_and_one_that_only_sends_no_more_is_not_gone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let upload = "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\n12";
    for sent in [format!("{GET}\r\n"), format!("{GET}{GET}"), format!("{GET}GET /"), upload.to_owned()] {
        for then in [Then::Stays, Then::ShutsDown, Then::Closes, Then::Resets] {
            let mut far = tokio::net::TcpStream::connect(address).await.expect("a connection");
            let (near, _) = listener.accept().await.expect("a connection");
            let mut conn = ServerConn::new(near, Limits::default());
            far.write_all(sent.as_bytes()).await.expect("room");
            let first = poll_fn(|cx| conn.poll_request(cx)).await;
            assert!(matches!(first, Next::Request(_)), "{first:?}");
            assert!(conn.has_unread(), "{sent:?}");
            assert!(!poll_fn(|cx| Poll::Ready(conn.is_disconnected(cx))).await, "{sent:?}: it is still there");
            let far = match then {
                Then::Stays => Some(far),
                Then::ShutsDown => {
                    far.shutdown().await.expect("it is open");
                    Some(far)
                }
                Then::Closes => {
                    drop(far);
                    None
                }
                Then::Resets => {
                    far.set_zero_linger().expect("a socket");
                    drop(far);
                    None
                }
            };
            let is_gone = tokio::time::timeout(NOTICED, async {
                while !poll_fn(|cx| Poll::Ready(conn.is_disconnected(cx))).await {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            assert_eq!(is_gone.await.is_ok(), far.is_none(), "{sent:?}, then {then:?}");
            assert_eq!(conn.has_shut_down(), then != Then::Stays, "{sent:?}, then {then:?}");
        }
    }
}

#[tokio::test]
async fn a_request_that_comes_early_is_kept_for_its_turn() {
    let (mut conn, mut far) = having(GET).await;
    head(&mut conn).await;
    far.write_all(b"PUT /second HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("room");
    assert!(poll_fn(|cx| Poll::Ready(conn.poll_disconnected(cx).is_pending())).await);
    assert_eq!(head(&mut conn).await.path(), "/second");
}

#[tokio::test]
async fn a_client_that_sends_its_body_unasked_is_not_asked_for_it() {
    let text = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    for comes_with_head in [true, false] {
        let (mut conn, mut far) = having(&if comes_with_head { format!("{text}ok") } else { text.to_owned() }).await;
        head(&mut conn).await;
        assert_eq!(conn.owes_continue(), !comes_with_head);
        if !comes_with_head {
            assert!(poll_fn(|cx| Poll::Ready(conn.poll_unasked(cx).is_pending())).await);
            far.write_all(b"ok").await.expect("room");
        }
        poll_fn(|cx| conn.poll_unasked(cx)).await;
        assert!(!conn.owes_continue());
        let frame = poll_fn(|cx| conn.poll_body(cx)).await.expect("data").expect("a whole one");
        assert_eq!(frame.into_data().ok().as_deref(), Some(&b"ok"[..]));
        assert_eq!(written(conn, far).await, "", "no 100");
    }
}
