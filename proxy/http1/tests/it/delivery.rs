//! How far written bytes have come, over real sockets: the kernel's send buffer takes far more than the peer has read.

use std::cell::Cell;
use std::future::poll_fn;
use std::time::Duration;

use http::Method;
use outrigger_http1::client::{ClientConn, ResponseEvent};
use outrigger_http1::encode::BodyLength;
use outrigger_http1::transport::{Delivery, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Frames, head, request};

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("somebody listens");
    (near, listener.accept().await.expect("a connection").0)
}

/// Waits until it is so. The test hangs if that never comes.
async fn until(near: &TcpStream, is_so: impl Fn(Delivery) -> bool) {
    while !near.delivery().is_some_and(&is_so) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_delivery_is_complete_when_the_peer_has_acknowledged_everything() {
    let (mut near, mut far) = connection().await;
    near.write_all(b"a request").await.expect("there is room");
    until(&near, |delivery| delivery.is_complete).await;
    let piece = [0; 1 << 16];
    let mut written = 0;
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(100), near.write(&piece)).await {
        written += n;
    }
    assert!(!near.delivery().expect("the peer has acknowledged bytes").is_complete, "{written} bytes");
    let read = async {
        let mut left = written + b"a request".len();
        let mut room = vec![0; 1 << 16];
        while left > 0 {
            left -= far.read(&mut room).await.expect("the writer is there");
        }
    };
    tokio::join!(read, until(&near, |delivery| delivery.is_complete));
}

#[tokio::test]
async fn a_delivery_stands_still_when_the_peer_reads_nothing_and_goes_on_when_it_reads() {
    let (mut near, mut far) = connection().await;
    let piece = [0; 1 << 16];
    while tokio::time::timeout(Duration::from_millis(100), near.write(&piece)).await.is_ok() {}
    until(&near, |delivery| delivery.still_for >= Duration::from_millis(500)).await;
    let last = Cell::new(Duration::ZERO);
    let read = async {
        // As much as the peer's kernel wants to have free before it asks for more.
        let mut left = 1 << 19;
        let mut room = vec![0; 1 << 16];
        while left > 0_usize {
            left = left.saturating_sub(far.read(&mut room).await.expect("the writer is there"));
        }
    };
    tokio::join!(read, until(&near, |delivery| delivery.still_for < last.replace(delivery.still_for)));
    assert!(!near.delivery().expect("the peer has acknowledged bytes").is_complete);
}

#[tokio::test]
async fn a_peer_that_has_acknowledged_nothing_shows_no_delivery() {
    let (near, far) = connection().await;
    assert_eq!(far.delivery(), None);
    drop(near);
}

#[tokio::test]
async fn a_peer_that_has_reset_the_connection_shows_no_delivery() {
    let (mut near, far) = connection().await;
    near.write_all(b"a request").await.expect("there is room");
    until(&near, |delivery| delivery.is_complete).await;
    drop(far);
    while near.delivery().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_body_that_the_close_would_end_is_truncated_by_a_reset_that_a_write_has_taken_and_not_by_one_behind_its_end()
{
    for ends_first in [false, true] {
        let (near, mut far) = connection().await;
        let mut conn = ClientConn::new(near);
        let put = head(Method::PUT, "/");
        let piece = "x".repeat(100 << 20);
        conn.begin(request(&put, BodyLength::Known(100 << 20), Frames::of(&[&piece], None)));
        far.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.expect("there is room");
        assert!(matches!(poll_fn(|cx| conn.poll_response(cx)).await, Ok(ResponseEvent::Final(_))));
        if ends_first {
            far.shutdown().await.expect("it is open");
        }
        // The server goes with most of the request unread.
        drop(far);
        poll_fn(|cx| conn.poll_finish_sending(cx)).await;
        let half = poll_fn(|cx| conn.poll_body(cx)).await.expect("a piece").expect("it came before");
        assert_eq!(half.into_data().expect("data"), "half");
        let end = poll_fn(|cx| conn.poll_body(cx)).await;
        assert_eq!(end.is_none(), ends_first, "{end:?}");
        assert!(!conn.is_reusable());
    }
}
