//! A response on its way to a client, and the rest of its request after it.

use std::future::poll_fn;
use std::task::{Context as Cx, Poll, ready};

use outrigger_http1::encode::{Framing, WrongLength};
use outrigger_http1::head::{Name, ResponseHead};
use outrigger_http1::server::OutgoingResponse;

use super::connection::Connection;
use crate::clock;
use crate::downstream::stream::Http1;
use crate::exchange::received::BrokenOff;
use crate::exchange::response::{Response, ResponseBody, Uploading};
use crate::exchange::uploading::UploadEnd;

/// A response that was sent whole.
pub(super) struct Sent {
    /// Its exchange, if the request is still being sent to the endpoint.
    pub(super) uploading: Option<Uploading>,
    /// Whether the end of the connection ends the response.
    pub(super) is_open_ended: bool,
}

/// Sends a response; an error if it could not be sent whole.
pub(super) async fn respond(connection: &Connection, response: Response, is_last: bool) -> Result<Sent, Cut> {
    let Response { head, body, .. } = response;
    let conn = &connection.conn;
    let date = missing_date(&head);
    let date = date.as_ref().map(String::as_bytes);
    let outgoing = OutgoingResponse { head: &head, length: body.length(), date, closes: is_last };
    let framing = conn.borrow_mut().begin_response(&outgoing);
    drop(head);
    let mut sending = Sending::new(body, framing.is_some());
    poll_fn(|cx| {
        loop {
            let drawn = sending.poll_draw(conn, cx);
            let flushed = conn.borrow_mut().poll_flush(cx);
            match (flushed, drawn) {
                (Poll::Ready(Err(_)), _) => return Poll::Ready(Err(Cut)),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
                // Everything that came before the break has been sent.
                (Poll::Ready(Ok(())), Poll::Ready(Err(Cut))) => return Poll::Ready(Err(sending.broke_off())),
                (Poll::Ready(Ok(())), Poll::Pending) if sending.wants_room => {}
                (Poll::Ready(Ok(())) | Poll::Pending, _) => {
                    sending.poll_upload(cx);
                    return connection.poll_disconnected(cx).map(|()| Err(Cut));
                }
            }
        }
    })
    .await?;
    Ok(Sent { uploading: sending.uploading, is_open_ended: framing == Some(Framing::UntilClose) })
}

/// Sends the rest of a request whose response has been sent; an error if the downstream connection has to end. If the endpoint reads no more, the rest is left to be
/// discarded. A client that leaves after its request takes nothing back.
pub(super) async fn finish_upload(connection: &Connection, mut uploading: Uploading) -> Result<(), Cut> {
    poll_fn(|cx| match uploading.poll(cx) {
        Poll::Ready(UploadEnd::Over) => Poll::Ready(Ok(())),
        Poll::Ready(UploadEnd::TooSlow) => Poll::Ready(Err(Cut)),
        Poll::Pending if connection.has_left_body(cx) => Poll::Ready(Err(Cut)),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// The `Date` of a response that has none (RFC 9110 §6.6.1).
fn missing_date(head: &ResponseHead) -> Option<String> {
    (!head.fields.has(Name::Date)).then(|| httpdate::fmt_http_date(clock::wall()))
}

/// The response or the request could not be sent whole.
pub(super) struct Cut;

/// A response's body that is being sent.
struct Sending {
    body: Option<ResponseBody>,
    /// The exchange, if the body has ended and the request is still being sent.
    uploading: Option<Uploading>,
    /// Whether reading it waits for room in the write buffer.
    wants_room: bool,
}

impl Sending {
    fn new(body: ResponseBody, is_wanted: bool) -> Sending {
        if is_wanted {
            return Sending { body: Some(body), uploading: None, wants_room: false };
        }
        Sending { body: None, uploading: body.into_uploading(), wants_room: false }
    }

    /// Fills the write buffer with what the body has. Ready when all of it is in the buffer; then the exchange is over and counted, unless its request is still being
    /// sent.
    fn poll_draw(&mut self, conn: &Http1, cx: &mut Cx<'_>) -> Poll<Result<(), Cut>> {
        while let Some(body) = &mut self.body {
            self.wants_room = !conn.borrow().has_room();
            if self.wants_room {
                return Poll::Pending;
            }
            let is_whole = match ready!(body.poll_frame(cx)) {
                Some(Err(BrokenOff)) => return Poll::Ready(Err(Cut)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        conn.borrow_mut().push(data)?;
                        body.has_ended() && conn.borrow_mut().end(None).map(|()| true)?
                    }
                    Err(frame) => conn.borrow_mut().end(frame.trailers_ref()).map(|()| true)?,
                },
                None => conn.borrow_mut().end(None).map(|()| true)?,
            };
            if is_whole {
                self.uploading = self.body.take().and_then(ResponseBody::into_uploading);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends more of the request, because a client may read no response before its request is sent.
    fn poll_upload(&mut self, cx: &mut Cx<'_>) {
        if let Some(body) = &mut self.body {
            body.poll_upload(cx);
        } else if let Some(uploading) = &mut self.uploading
            && uploading.poll(cx) == Poll::Ready(UploadEnd::Over)
        {
            self.uploading = None;
        }
    }

    /// Ends the connection, but not cleanly, because the endpoint broke the response off.
    fn broke_off(&mut self) -> Cut {
        if let Some(body) = &mut self.body {
            body.broke_off();
        }
        Cut
    }
}

impl From<WrongLength> for Cut {
    fn from(WrongLength: WrongLength) -> Cut {
        Cut
    }
}
