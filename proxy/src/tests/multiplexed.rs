//! Several exchanges on one downstream connection, as HTTP/2 will have them. A test double stands in for HTTP/2.
//!
//! A [`Double`] is one stream of such a connection. The exchange gets it like any other downstream. So these tests prove that progress, deadlines and bodies of an
//! exchange do not rely on having the connection to themselves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Method;
use http_body::Frame;
use outrigger_http1::encode::BodyLength;
use outrigger_http1::head::RequestHead;
use outrigger_http1::parse::BodyError;

use super::*;
use crate::clock::Alarm;
use crate::downstream::progress::Progress;
use crate::downstream::stream::{Downstream, Stream};
use crate::exchange;
use crate::exchange::response::Reply;

/// The request's side of one stream.
#[derive(Default)]
pub struct Double {
    /// Announced length; `None` for a request without a body.
    length: Option<u64>,
    pieces: RefCell<VecDeque<Bytes>>,
    left: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Double {
    fn with_body(length: u64) -> Double {
        Double { length: Some(length), left: Cell::new(length), ..Double::default() }
    }

    /// A piece of the body arrives.
    fn arrives(&self, piece: &str) {
        self.pieces.borrow_mut().push_back(Bytes::copy_from_slice(piece.as_bytes()));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub fn body_length(&self) -> BodyLength {
        self.length.map_or(BodyLength::None, BodyLength::Known)
    }

    pub fn has_body_ended(&self) -> bool {
        self.left.get() == 0
    }

    pub fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.has_body_ended() {
            return Poll::Ready(None);
        }
        let Some(piece) = self.pieces.borrow_mut().pop_front() else {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.left.set(self.left.get() - piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// Carries out one request on a stream of its own; its status and its body.
async fn exchange(bench: &Bench, head: &str, double: Rc<Double>) -> (u16, String) {
    let context = bench.context();
    let progress = Rc::new(Progress::new(context.tick()));
    let downstream = Rc::new(Downstream { progress, alarm: Alarm::default(), stream: Stream::Double(double) });
    let (method, path) = head.split_once(' ').expect("a method and a path");
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let mut head = RequestHead::to(method, path).expect("a target");
    head.fields.append("host", b"backend");
    let Reply::Response(mut response) = exchange::run(&context, &downstream, head).await else {
        panic!("no tunnel was asked for")
    };
    let mut body = String::new();
    while !response.body.has_ended() {
        let Some(frame) = poll_fn(|cx| response.body.poll_frame(cx)).await else { break };
        let data = frame.expect("it does not break off").into_data().expect("no trailers");
        body.push_str(std::str::from_utf8(&data).expect("text"));
    }
    (response.head.status.as_u16(), body)
}

#[test]
fn exchanges_on_one_connection_end_independently_and_in_any_order() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            while let Some(head) = peer.request().await {
                // The first path is the slowest.
                let n: u64 = head.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).expect("a number");
                pass(seconds(10 - n)).await;
                peer.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{n}")).await;
            }
        });
        let bench = Bench::new(&net, &format!("{ONE}[upstreams.backend.timeouts]\nattempt = \"8500ms\"\n")).await;
        let ended = RefCell::new(Vec::new());
        let (bench, seen) = (&bench, &ended);
        let request = |n: u64| async move {
            let (status, body) = exchange(bench, &format!("POST /{n}"), Rc::default()).await;
            seen.borrow_mut().push((n, status, body));
        };
        tokio::join!(request(1), request(2), request(3), request(4));
        let ended = ended.into_inner();
        // The deadline of the first ends the first alone.
        assert_eq!(ended[0], (4, 200, "4".to_owned()));
        assert_eq!(ended[1], (3, 200, "3".to_owned()));
        assert_eq!(ended[2], (2, 200, "2".to_owned()));
        assert_eq!((ended[3].0, ended[3].1), (1, 504));
        assert_eq!(bench.under_way(), (0, 0));
    });
}

#[test]
fn uploads_on_one_connection_wait_for_their_own_bytes_only() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let (slow, quick) = (Rc::new(Double::with_body(6)), Rc::new(Double::with_body(5)));
        let slow_request = exchange(&bench, "PUT /slow", Rc::clone(&slow));
        let quick_request = exchange(&bench, "PUT /quick", Rc::clone(&quick));
        let drip = async {
            slow.arrives("abc");
            quick.arrives("12345");
            settle().await;
            assert_eq!(net.arrived(), [format!("{A} PUT /quick 12345")], "the other body is not whole");
            slow.arrives("def");
        };
        let (first, second, ()) = tokio::join!(slow_request, quick_request, drip);
        assert_eq!((first.0, second.0), (200, 200));
        assert_eq!(net.arrived().len(), 2);
        assert!(net.arrived().contains(&format!("{A} PUT /slow abcdef")));
        assert_eq!((bench.under_way(), bench.shared.replay.kept()), ((0, 0), 0));
    });
}

#[test]
fn an_exchange_that_is_dropped_takes_no_other_with_it() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            while peer.request().await.is_some() {
                pass(seconds(1)).await;
                peer.say(OK).await;
            }
        });
        let bench = Bench::new(&net, ONE).await;
        {
            let dropped = exchange(&bench, "GET /dropped", Rc::default());
            assert!(clock::until(clock::now() + Duration::from_millis(500), dropped).await.is_none());
        }
        assert_eq!(exchange(&bench, "GET /kept", Rc::default()).await, (200, "ok".to_owned()));
        assert_eq!(bench.under_way(), (0, 0));
        assert_eq!(bench.metric("outrigger_attempts_total", &["outcome=\"downstream_disconnect\""]), 1.0);
        assert_eq!(bench.metric("outrigger_requests_total", &["outcome=\"downstream_disconnect\""]), 1.0);
    });
}
