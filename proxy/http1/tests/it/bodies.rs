//! Bodies arrive as they were sent, whatever their pieces are and however few bytes the pipe takes at a time; in both directions, over one connection used
//! again and again.

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use outrigger_http1::client::{ClientConn, OutgoingRequest, ResponseEvent};
use outrigger_http1::encode::BodyLength;
use outrigger_http1::head::ResponseHead;
use outrigger_http1::parse::Limits;
use outrigger_http1::server::{Next, OutgoingResponse, ServerConn};
use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};
use tokio::runtime::Builder;

use super::{Frames, head, request, trailers};

/// Data and trailers of one body.
type Received = (String, Option<HeaderMap>);

#[derive(Clone, Debug)]
struct Message {
    pieces: Vec<usize>,
    is_chunked: bool,
}

impl Message {
    /// Its pieces, none of them alike.
    fn pieces(&self) -> Vec<String> {
        let letters = ('a'..='z').cycle();
        self.pieces.iter().zip(letters).map(|(size, letter)| letter.to_string().repeat(*size)).collect()
    }

    fn length(&self) -> BodyLength {
        match self.pieces.iter().sum::<usize>() as u64 {
            _ if self.is_chunked => BodyLength::Unknown,
            0 => BodyLength::None,
            length => BodyLength::Known(length),
        }
    }

    fn expected(&self) -> Received {
        (self.pieces().concat(), self.is_chunked.then(trailers))
    }
}

async fn serve(far: DuplexStream, messages: &[Message]) -> Vec<Received> {
    let mut conn = ServerConn::new(far, Limits::default());
    let mut received = Vec::new();
    for message in messages {
        let Next::Request(_) = poll_fn(|cx| conn.poll_request(cx)).await else { panic!("no request") };
        let mut body: Received = Default::default();
        while let Some(frame) = poll_fn(|cx| conn.poll_body(cx)).await {
            take(&mut body, frame.expect("a whole body"));
        }
        received.push(body);
        let response = ResponseHead::from_status(StatusCode::OK);
        let outgoing = OutgoingResponse { head: &response, length: message.length(), date: None, closes: false };
        if conn.begin_response(&outgoing).is_some() {
            for piece in message.pieces() {
                poll_fn(|cx| conn.poll_flush(cx)).await.expect("it is read");
                conn.push(Bytes::from(piece)).expect("as announced");
            }
            conn.end(Some(&trailers()).filter(|_| conn.has_room())).expect("as announced");
        }
        poll_fn(|cx| conn.poll_flush(cx)).await.expect("it is read");
    }
    received
}

async fn ask(near: DuplexStream, messages: &[Message]) -> Vec<Received> {
    let mut conn = ClientConn::new(near);
    let mut received = Vec::new();
    let put = head(Method::PUT, "/");
    for message in messages {
        let pieces = message.pieces();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let frames = Frames::of(&pieces, message.is_chunked.then(trailers));
        conn.begin(OutgoingRequest { accepts_trailers: true, ..request(&put, message.length(), frames) });
        let event = poll_fn(|cx| conn.poll_response(cx)).await.expect("a response");
        assert!(matches!(event, ResponseEvent::Final(_)));
        let mut body: Received = Default::default();
        while let Some(frame) = poll_fn(|cx| conn.poll_body(cx)).await {
            take(&mut body, frame.expect("a whole body"));
        }
        received.push(body);
        assert!(conn.is_reusable());
    }
    received
}

fn take(body: &mut Received, frame: http_body::Frame<Bytes>) {
    match frame.into_data() {
        Ok(data) => body.0.push_str(std::str::from_utf8(&data).expect("text")),
        Err(frame) => body.1 = frame.into_trailers().ok(),
    }
}

fn message() -> impl Strategy<Value = Message> {
    let size = prop_oneof![0..10usize, 1_000..20_000usize];
    (prop::collection::vec(size, 0..5), any::<bool>()).prop_map(|(pieces, is_chunked)| Message { pieces, is_chunked })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bodies_arrive_as_they_were_sent(messages in prop::collection::vec(message(), 1..4), pipe in 1..5_000usize) {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let (near, far) = duplex(pipe);
        let (down, up) = runtime.block_on(async { tokio::join!(ask(near, &messages), serve(far, &messages)) });
        let expected: Vec<_> = messages.iter().map(Message::expected).collect();
        prop_assert_eq!(&up, &expected);
        for (down, expected) in down.iter().zip(&expected) {
            prop_assert_eq!(&down.0, &expected.0);
            prop_assert!(down.1.is_none() || down.1 == expected.1);
        }
    }
}
