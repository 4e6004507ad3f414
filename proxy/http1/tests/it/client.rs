//! Client connections: the bytes of requests, what is proven when there is no response, held bodies, early responses.

use std::future::poll_fn;
use std::task::Poll;

use http::Method;
use outrigger_http1::client::{ClientConn, OutgoingRequest, ResponseEvent, SendError, SendErrorKind};
use outrigger_http1::encode::BodyLength;
use outrigger_http1::head::ResponseHead;
use outrigger_http1::parse::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{Frames, head, request, trailers};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

type Client = ClientConn<DuplexStream, Frames>;

async fn event(conn: &mut Client) -> Result<ResponseEvent, SendError> {
    poll_fn(|cx| conn.poll_response(cx)).await
}

async fn response(conn: &mut Client) -> ResponseHead {
    match event(conn).await {
        Ok(ResponseEvent::Final(head)) => head,
        other => panic!("no final response: {other:?}"),
    }
}

async fn body(conn: &mut Client) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|cx| conn.poll_body(cx)).await {
        whole.extend(frame.expect("a whole body").into_data().unwrap_or_default());
    }
    whole
}

/// The bytes of `request` that are written after one poll.
async fn written(request: OutgoingRequest<'_, Frames>) -> String {
    let (near, mut far) = duplex(1 << 16);
    let mut conn = Client::new(near);
    conn.begin(request);
    let polled = poll_fn(|cx| Poll::Ready(conn.poll_response(cx).is_ready())).await;
    assert!(!polled, "nobody has responded");
    drop(conn);
    let mut text = String::new();
    far.read_to_string(&mut text).await.expect("text");
    text
}

#[tokio::test]
async fn framing_comes_from_the_body_and_the_rest_from_the_head() {
    let none = BodyLength::None;
    let get = head(Method::GET, "/a?b");
    let post = head(Method::POST, "http://b/c");
    let options = head(Method::OPTIONS, "*");
    let pieces = || Frames::of(&["ab", "", "c"], Some(trailers()));
    for (request, expected) in [
        (request(&get, none, Frames::default()), "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"),
        (request(&options, none, Frames::default()), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (request(&post, none, Frames::default()), "POST /c HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n"),
        (
            request(&get, BodyLength::Known(3), Frames::of(&["ab", "c"], None)),
            "GET /a?b HTTP/1.1\r\nHost: a\r\ncontent-length: 3\r\n\r\nabc",
        ),
        (
            request(&post, BodyLength::Unknown, pieces()),
            "POST /c HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nsum: 1\r\n\r\n",
        ),
        (
            OutgoingRequest { host: Some(b"b:1"), accepts_trailers: true, ..request(&get, none, Frames::default()) },
            "GET /a?b HTTP/1.1\r\nhost: b:1\r\nconnection: te\r\nte: trailers\r\n\r\n",
        ),
        (
            OutgoingRequest { upgrade: Some(b"websocket"), ..request(&get, none, Frames::default()) },
            "GET /a?b HTTP/1.1\r\nHost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        (
            OutgoingRequest { expects_continue: true, ..request(&get, BodyLength::Unknown, pieces()) },
            "GET /a?b HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n",
        ),
        (
            OutgoingRequest { expects_continue: true, ..request(&get, none, Frames::default()) },
            "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
    ] {
        assert_eq!(written(request).await, expected);
    }
}

/// A connection, new or after a first request.
async fn connected(reused: bool) -> (Client, DuplexStream) {
    let (near, mut far) = duplex(4096);
    let mut conn = Client::new(near);
    if reused {
        let get = head(Method::GET, "/first");
        conn.begin(request(&get, BodyLength::None, Frames::default()));
        far.write_all(OK).await.expect("room");
        response(&mut conn).await;
        assert_eq!(body(&mut conn).await, b"ok");
        far.read_exact(&mut [0; 1]).await.expect("a request");
    }
    (conn, far)
}

async fn error(conn: &mut Client) -> SendError {
    loop {
        match event(conn).await {
            Ok(ResponseEvent::Informational(_)) => {}
            Ok(ResponseEvent::Final(head)) => panic!("{head:?}"),
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn an_error_says_what_is_proven() {
    use SendErrorKind::{Closed, Malformed};
    let get = head(Method::GET, "/");
    for (said, kind) in [
        (None, Closed),
        (Some(""), Closed),
        (Some("HTTP/1.1 20"), Closed),
        (Some("HTTP/1.1 103 Early\r\n\r\n"), Closed),
        (Some("SSH-2.0-x\r\n"), Malformed(Refusal::BadStatusLine)),
        (Some("HTTP/1.1 101 Switching\r\n\r\n"), Malformed(Refusal::UnexpectedUpgrade)),
    ] {
        for reused in [false, true] {
            let (mut conn, mut far) = connected(reused).await;
            conn.begin(request(&get, BodyLength::None, Frames::default()));
            // The server reads the request and sends this, or has closed before.
            if let Some(said) = said {
                far.write_all(said.as_bytes()).await.expect("room");
                let first = poll_fn(|cx| Poll::Ready(conn.poll_response(cx))).await;
                if let Poll::Ready(Err(error)) = first {
                    assert_eq!(error, SendError { kind, wrote: true, read: true, reused }, "{said}");
                    continue;
                }
            }
            drop(far);
            let read = said.is_some_and(|said| !said.is_empty());
            assert_eq!(error(&mut conn).await, SendError { kind, wrote: said.is_some(), read, reused }, "{said:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_or_has_another_length_is_no_fault_of_the_server() {
    let put = head(Method::PUT, "/");
    let large = "x".repeat(16 * 1024);
    for (length, piece, fails, wrote) in [
        (BodyLength::Known(1), "xyz", false, false),
        (BodyLength::Known(5), "xyz", false, false),
        (BodyLength::Known(5), "xyz", true, false),
        (BodyLength::Unknown, "xyz", true, false),
        // This piece has to be written before the source is polled again.
        (BodyLength::Unknown, &large, true, true),
    ] {
        for reused in [false, true] {
            let (mut conn, mut far) = connected(reused).await;
            conn.begin(request(&put, length, Frames { fails, ..Frames::of(&[piece], None) }));
            let drain = async {
                let mut some = [0; 4096];
                while far.read(&mut some).await.expect("a pipe") > 0 {}
            };
            let error = tokio::select! {
                error = error(&mut conn) => error,
                () = drain => panic!("the connection ended"),
            };
            assert_eq!(error, SendError { kind: SendErrorKind::Body, wrote, read: false, reused });
        }
    }
}

#[tokio::test]
async fn a_held_body_goes_when_it_is_released_or_the_server_says_anything() {
    for informational in [None, Some("HTTP/1.1 100 Continue\r\n\r\n"), Some("HTTP/1.1 102 Processing\r\n\r\n")] {
        let (near, mut far) = duplex(4096);
        let mut conn = Client::new(near);
        let put = head(Method::PUT, "/");
        let frames = Frames::of(&["body"], None);
        conn.begin(OutgoingRequest { expects_continue: true, ..request(&put, BodyLength::Known(4), frames) });
        assert!(poll_fn(|cx| Poll::Ready(conn.poll_response(cx).is_pending())).await && conn.is_held());
        let mut text = vec![0; 4096];
        let n = far.read(&mut text).await.expect("a head");
        assert!(text[..n].ends_with(b"expect: 100-continue\r\n\r\n"));
        match informational {
            None => conn.release_body(),
            Some(said) => {
                far.write_all(said.as_bytes()).await.expect("room");
                assert!(matches!(event(&mut conn).await, Ok(ResponseEvent::Informational(_))), "{said}");
            }
        }
        assert!(!conn.is_held());
        far.write_all(OK).await.expect("room");
        response(&mut conn).await;
        let n = far.read(&mut text).await.expect("a body");
        assert_eq!(&text[..n], b"body");
        assert!(conn.has_body_ended() || body(&mut conn).await == b"ok");
        assert!(conn.is_reusable());
    }
}

#[tokio::test]
async fn an_early_response_does_not_end_the_request_and_its_connection_carries_no_other() {
    let (near, mut far) = duplex(1024);
    let mut conn = Client::new(near);
    let put = head(Method::PUT, "/");
    let piece = "x".repeat(10_000);
    conn.begin(request(&put, BodyLength::Known(20_000), Frames::of(&[&piece, &piece], None)));
    far.write_all(OK).await.expect("room");
    response(&mut conn).await;
    assert_eq!(body(&mut conn).await, b"ok");
    assert!(conn.is_sending() && !conn.is_reusable());
    let mut text = Vec::new();
    let read = async {
        while !text.ends_with(piece.as_bytes()) || text.len() < 20_000 {
            let mut some = [0; 4096];
            let n = far.read(&mut some).await.expect("more of it");
            text.extend_from_slice(&some[..n]);
        }
    };
    tokio::join!(poll_fn(|cx| conn.poll_finish_sending(cx)), read);
    assert!(!conn.is_sending() && !conn.is_reusable() && conn.is_alive());
    drop(far);
    assert!(!conn.is_alive());
}

#[tokio::test]
async fn reading_a_response_sends_nothing_of_its_request() {
    let (near, mut far) = duplex(1024);
    let mut conn = Client::new(near);
    let put = head(Method::PUT, "/");
    let piece = "x".repeat(10_000);
    conn.begin(request(&put, BodyLength::Known(10_000), Frames::of(&[&piece], None)));
    far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.expect("room");
    response(&mut conn).await;
    let before = conn.written();
    assert_eq!(before, 1024, "as much as the server takes");
    let mut taken = [0; 1024];
    far.read_exact(&mut taken).await.expect("what was sent");
    far.write_all(b"done").await.expect("room");
    assert_eq!(body(&mut conn).await, b"done");
    assert!(conn.is_sending() && conn.written() == before);
}

#[tokio::test]
async fn a_body_that_is_held_is_not_being_sent_once_the_response_has_come() {
    let (near, mut far) = duplex(1024);
    let mut conn = Client::new(near);
    let put = head(Method::PUT, "/");
    let outgoing = request(&put, BodyLength::Known(4), Frames::of(&["body"], None));
    conn.begin(OutgoingRequest { expects_continue: true, ..outgoing });
    far.write_all(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n").await.expect("room");
    response(&mut conn).await;
    assert!(conn.is_held() && !conn.is_sending() && !conn.is_reusable());
}

#[tokio::test]
async fn a_connection_is_not_used_again_after_its_last_response() {
    for (method, text, is_reusable) in [
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", true),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", false),
        (Method::GET, "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", false),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nx", false),
        (Method::GET, "HTTP/1.1 200 OK\r\n\r\nuntil the end", false),
    ] {
        let (near, mut far) = duplex(4096);
        let mut conn = Client::new(near);
        let head = head(method, "/");
        conn.begin(request(&head, BodyLength::None, Frames::default()));
        far.write_all(text.as_bytes()).await.expect("room");
        far.shutdown().await.expect("a pipe");
        response(&mut conn).await;
        body(&mut conn).await;
        assert_eq!(conn.is_reusable(), is_reusable, "{text}");
    }
}

#[tokio::test]
async fn a_tunnel_begins_with_what_came_behind_its_head() {
    let (near, mut far) = duplex(4096);
    let mut conn = Client::new(near);
    let connect = head(Method::CONNECT, "b:443");
    conn.begin(request(&connect, BodyLength::None, Frames::default()));
    far.write_all(b"HTTP/1.1 200 OK\r\n\r\nearly").await.expect("room");
    assert_eq!(response(&mut conn).await.status, 200);
    assert_eq!(&conn.take_early()[..], b"early");
}
