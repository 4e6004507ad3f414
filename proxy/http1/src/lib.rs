//! Strict HTTP/1.1 over any byte stream: each message has one meaning, or it is refused.
//!
//! Two readers that understand the same bytes in two ways are how requests get smuggled and responses split. This crate is for programs that stand between two
//! such readers. It sends on only what every reader takes for the same, and it keeps a head as it came, so that sending it on copies its lines.
//!
//! # What it accepts
//!
//! * HTTP/1.1 and HTTP/1.0 (RFC 9112 §2.3), keep-alive and pipelining by one request ahead (§9.3).
//! * Targets in the four forms of RFC 9112 §3.2, each where its method may have it; paths with the few unescaped bytes that common clients send.
//! * Fields of RFC 9110 §5 with values of any bytes but control bytes, the tab apart. One empty line before a request line (RFC 9112 §2.2).
//! * Bodies by `Content-Length`, in chunks with extensions and trailers (§7.1), and, of responses, up to the end of the connection (§6.3).
//! * Informational responses (RFC 9110 §15.2), `Expect: 100-continue` (§10.1.1), upgrades (§7.8) and CONNECT (§9.3.6).
//! * Peers that end their sending side and still read, and responses that come before their request is whole (RFC 9112 §9.5).
//!
//! # What it refuses
//!
//! [`parse::Refusal`] is the whole list. Above all:
//!
//! * bare line feeds, folded lines (RFC 9112 §5.2), blanks before a colon (§5.1), control bytes in values;
//! * no or several `Host` fields, and hosts that are not exactly a host with or without a port (§3.2);
//! * `Transfer-Encoding` beside `Content-Length`, several lengths even if they agree, any coding but one `chunked`, `Transfer-Encoding` in HTTP/1.0 (§6.1, §6.3);
//! * a body where there cannot be one, chunk sizes that are not plain hexadecimal numbers, trailers that say how or to whom a message goes (RFC 9110 §6.5.1);
//! * responses that nobody expects, a 101 that nobody asked for, unknown 1xx;
//! * everything beyond the [`parse::Limits`].
//!
//! The verdict never depends on how the bytes were cut into pieces.
//!
//! # What it leaves to its user
//!
//! * **Time.** There is no timer and no clock in it. Everything that waits is a `poll_` method, and dropping a connection ends it. The `Date` of a response is
//!   an argument.
//! * **Retries.** Nothing is sent twice. [`client::SendError`] says what is proven about a request that got no response.
//! * **Routing and forwarding.** It removes no field and adds none but those that frame a message or speak of the connection. [`traits`] reads what a proxy
//!   needs to know for the rest (RFC 9110 §7.6).
//! * **Streams.** A [`transport::Transport`] is made elsewhere, be it TCP, TLS or a pipe.
//!
//! # Example
//!
//! A server and a client over a pipe:
//!
//! ```
//! use std::future::poll_fn;
//!
//! use bytes::Bytes;
//! use http::{Method, StatusCode};
//! use http_body_util::Empty;
//! use outrigger_http1::client::{ClientConn, OutgoingRequest, ResponseEvent};
//! use outrigger_http1::encode::BodyLength;
//! use outrigger_http1::head::{RequestHead, ResponseHead};
//! use outrigger_http1::parse::Limits;
//! use outrigger_http1::server::{Next, OutgoingResponse, ServerConn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (near, far) = tokio::io::duplex(1024);
//!
//! let serve = async {
//!     let mut conn = ServerConn::new(far, Limits::default());
//!     while let Next::Request(head) = poll_fn(|cx| conn.poll_request(cx)).await {
//!         let text = format!("you asked for {}", head.path());
//!         let length = BodyLength::Known(text.len() as u64);
//!         let mut head = ResponseHead::from_status(StatusCode::OK);
//!         head.fields.append("content-type", b"text/plain");
//!         conn.begin_response(&OutgoingResponse { head: &head, length, date: None, closes: false });
//!         conn.push(Bytes::from(text)).expect("as long as announced");
//!         conn.end(None).expect("as long as announced");
//!         poll_fn(|cx| conn.poll_flush(cx)).await.expect("the client reads");
//!     }
//! };
//!
//! let ask = async {
//!     let mut conn = ClientConn::new(near);
//!     let mut head = RequestHead::to(Method::GET, "/tea?milk").expect("a target");
//!     head.fields.append("host", b"example.org");
//!     conn.begin(OutgoingRequest {
//!         head: &head,
//!         host: None,
//!         length: BodyLength::None,
//!         body: Empty::<Bytes>::new(),
//!         expects_continue: false,
//!         accepts_trailers: false,
//!         upgrade: None,
//!         limits: Limits::default(),
//!     });
//!     let head = loop {
//!         match poll_fn(|cx| conn.poll_response(cx)).await.expect("a response") {
//!             ResponseEvent::Informational(_) => {}
//!             ResponseEvent::Final(head) => break head,
//!         }
//!     };
//!     assert_eq!(head.status, StatusCode::OK);
//!     let mut text = Vec::new();
//!     while let Some(frame) = poll_fn(|cx| conn.poll_body(cx)).await {
//!         text.extend(frame.expect("a whole body").into_data().expect("no trailers"));
//!     }
//!     assert_eq!(text, b"you asked for /tea");
//!     assert!(conn.is_reusable());
//! };
//!
//! tokio::join!(serve, ask);
//! # }
//! ```

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod client;
mod delivery;
pub mod encode;
pub mod head;
pub mod parse;
mod reading;
pub mod server;
pub mod traits;
pub mod transport;
pub mod tunnel;
