//! Endpoints. The rng draws a fate for each connection, and for each request on it.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf};

use super::super::net::{OnPanic, read_body, read_head};
use super::World;
use crate::clock;
use crate::transport::{ByteStream, MemoryPipe};
use crate::upstream::connect::{Dial, Dialing};
use crate::upstream::endpoint::Target;

const PIPE_BYTES: usize = 16 * 1024;

/// Connects the proxy to the endpoints of a run.
pub(super) struct Network(Rc<World>);

impl Network {
    pub(super) fn new(world: &Rc<World>) -> Network {
        Network(Rc::clone(world))
    }
}

impl Dial for Network {
    fn dial(&self, target: &Target) -> Dialing {
        let address = target.address;
        let world = Rc::clone(&self.0);
        Box::pin(async move {
            clock::sleep(world.millis(3)).await;
            if world.chance(world.scenario.faults / 4) {
                let kind = world.draw(4);
                world.log(|| format!("{address} fault {kind} at connecting"));
                match kind {
                    0 => return Err(io::ErrorKind::ConnectionRefused.into()),
                    1 => return Err(io::ErrorKind::HostUnreachable.into()),
                    2 => std::future::pending::<()>().await,
                    // The connection is gone before anything can be written.
                    _ => return Ok(ByteStream::Memory(MemoryPipe::pair(PIPE_BYTES).0)),
                }
            }
            let (ours, theirs) = MemoryPipe::pair(PIPE_BYTES);
            tokio::task::spawn_local(serve(world, theirs, address));
            Ok(ByteStream::Memory(ours))
        })
    }
}

/// What becomes of a request that reaches an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Fine,
    Status,
    /// The endpoint sends nothing.
    Silence,
    /// The endpoint closes without a response.
    Close,
    /// The endpoint closes after some bytes of the response.
    BreakOff,
    /// The endpoint sends some bytes of the response, and no more.
    Stall,
    Garbage,
    /// The endpoint sends more than it announced, unless the next request arrives first: by HTTP/1.1's rules, bytes sent after that are the response to it.
    TooLong,
    InformationalFlood,
    /// The endpoint responds before it has read the body of the request, and closes.
    Early,
    /// The same, but it reads the body meanwhile, perhaps slowly.
    EarlyReading,
    /// The same, but it neither reads nor closes.
    EarlyDeaf,
    /// The endpoint closes after a whole response that did not announce it.
    CloseAfter,
    Upgrade,
}

const FAULTS: [Fate; 14] = [
    Fate::Status,
    Fate::Silence,
    Fate::Close,
    Fate::BreakOff,
    Fate::Stall,
    Fate::Garbage,
    Fate::TooLong,
    Fate::InformationalFlood,
    Fate::Early,
    Fate::EarlyReading,
    Fate::EarlyReading,
    Fate::EarlyDeaf,
    Fate::CloseAfter,
    Fate::Upgrade,
];

async fn serve(world: Rc<World>, mut pipe: MemoryPipe, address: SocketAddr) {
    let _guard = OnPanic(|| world.violation(format!("{address} panicked, probably at what it was sent")));
    let mut unread = Vec::new();
    loop {
        let closes_at = clock::now() + world.millis(4_000);
        let Some(head) = clock::until(closes_at, read_head(&mut pipe, &mut unread)).await.flatten() else {
            return leave(&world, pipe, unread);
        };
        let id = field(&head, "x-id: ");
        arrived(&world, &id);
        let fate = if world.chance(world.scenario.faults) {
            FAULTS[world.draw(FAULTS.len() as u32) as usize]
        } else {
            Fate::Fine
        };
        world.log(|| format!("{address} {id} gets {fate:?}"));
        if fate == Fate::EarlyReading {
            clock::sleep(world.millis(50)).await;
            respond_and_read(&world, pipe, unread, &head).await;
            return;
        }
        let is_early = matches!(fate, Fate::Early | Fate::EarlyDeaf);
        if !is_early && read_body(&mut pipe, &mut unread, &head).await.is_none() {
            return;
        }
        clock::sleep(world.millis(50)).await;
        if !response(&world, &mut pipe, &mut unread, &head, fate).await {
            return;
        }
    }
}

/// Responds, and reads the body of the request meanwhile.
async fn respond_and_read(world: &World, pipe: MemoryPipe, mut unread: Vec<u8>, head: &str) {
    let (reader, mut writer) = tokio::io::split(pipe);
    let text = whole(world, &field(head, "x-id: "), head.starts_with("HEAD "), Fate::EarlyReading);
    let number = field(&text, "x-response: ").parse().expect("a number");
    world.received.borrow_mut().insert(number, None);
    let pause_millis = [1, 50, 700][world.draw(3) as usize];
    let mut reader = Slow { world, reader, pause_millis, pause: None };
    let write = async {
        let (first, second) = text.split_at(world.draw(text.len() as u32) as usize);
        for piece in [first, second] {
            if writer.write_all(piece.as_bytes()).await.is_err() {
                return;
            }
            clock::sleep(world.millis(100)).await;
        }
    };
    let ((), body) = tokio::join!(write, read_body(&mut reader, &mut unread, head));
    world.log(|| format!("response {number}: {:?} bytes of the request", body.as_ref().map(String::len)));
    world.received.borrow_mut().insert(number, body);
}

/// Pauses before each piece.
struct Slow<'w> {
    world: &'w World,
    reader: ReadHalf<MemoryPipe>,
    pause_millis: u32,
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl AsyncRead for Slow<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Slow { world, reader, pause_millis, pause } = &mut *self;
        let waiting = pause.get_or_insert_with(|| Box::pin(clock::sleep(world.millis(*pause_millis))));
        ready!(waiting.as_mut().poll(cx));
        ready!(Pin::new(reader).poll_read(cx, buf))?;
        *pause = None;
        Poll::Ready(Ok(()))
    }
}

/// Whether the connection goes on.
async fn response(world: &World, pipe: &mut MemoryPipe, unread: &mut Vec<u8>, head: &str, fate: Fate) -> bool {
    let id = field(head, "x-id: ");
    let text = match fate {
        Fate::Silence => {
            clock::sleep(world.millis(5_000)).await;
            return false;
        }
        Fate::Close => return false,
        Fate::Garbage => {
            ["HTTP/1.1 2000 OK\r\n\r\n", "oops", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", "\r\n\r\n"]
                [world.draw(4) as usize]
                .to_owned()
        }
        Fate::Upgrade => "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_owned(),
        Fate::InformationalFlood => "HTTP/1.1 102 Processing\r\n\r\n".repeat(20),
        _ => whole(world, &id, head.starts_with("HEAD "), fate),
    };
    let mut text = text.into_bytes();
    let whole = text.len();
    match fate {
        Fate::BreakOff | Fate::Stall => text.truncate(world.draw(text.len() as u32) as usize),
        Fate::TooLong => text.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad"),
        _ => {}
    }
    if !say(world, pipe, unread, &text, whole).await {
        return false;
    }
    match fate {
        Fate::Stall => clock::sleep(world.millis(5_000)).await,
        // Longer than a body may stand still: what is sent to an endpoint that has closed would be discarded.
        Fate::EarlyDeaf => clock::sleep(Duration::from_secs(5)).await,
        _ => {}
    }
    matches!(fate, Fate::Fine | Fate::Status | Fate::TooLong) && !text.starts_with(b"HTTP/1.0")
}

/// A whole response, recorded as one.
fn whole(world: &World, id: &str, is_to_head: bool, fate: Fate) -> String {
    let mut responses = world.responses.borrow_mut();
    let number = responses.len();
    let is_last = matches!(fate, Fate::Fine | Fate::CloseAfter);
    let body =
        format!("{id} {number} {}", "x".repeat(world.draw(if world.chance(10) { 60_000 } else { 100 }) as usize));
    let status = if fate == Fate::Status { [429, 500, 503, 404][world.draw(4) as usize] } else { 200 };
    let retry_after = if status == 503 && world.chance(50) { "retry-after: 1\r\n" } else { "" };
    let marks = format!("x-id: {id}\r\nx-response: {number}\r\n{retry_after}");
    if fate == Fate::EarlyDeaf {
        world.deaf.borrow_mut().insert(number);
    }
    responses.push((id.to_owned(), if is_to_head { String::new() } else { body.clone() }));
    let shown = if is_to_head { "" } else { body.as_str() };
    // A response that ends with its connection looks the same when it breaks off. So only fates that send it whole may have this form.
    match world.draw(3) {
        0 if is_last && !is_to_head => format!("HTTP/1.0 {status} X\r\n{marks}\r\n{shown}"),
        1 if !is_to_head => {
            let (first, second) = body.split_at(world.draw(body.len() as u32) as usize);
            let chunk =
                |data: &str| if data.is_empty() { String::new() } else { format!("{:x}\r\n{data}\r\n", data.len()) };
            let chunks = chunk(first) + &chunk(second);
            format!("HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n{marks}\r\n{chunks}0\r\n\r\n")
        }
        _ => format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{marks}\r\n{shown}", body.len()),
    }
}

/// Writes in up to three pieces; whether the proxy read them. The response ends after `whole` bytes. Bytes beyond it are not begun once the next request has arrived.
async fn say(world: &World, pipe: &mut MemoryPipe, unread: &mut Vec<u8>, text: &[u8], whole: usize) -> bool {
    let mut rest = text;
    let mut is_too_late = |pipe: &mut MemoryPipe, rest: &[u8]| {
        let is_surplus = !rest.is_empty() && text.len() - rest.len() == whole;
        is_surplus && has_arrived(pipe, unread)
    };
    for _ in 0..2 {
        if is_too_late(pipe, rest) {
            return true;
        }
        let (piece, after) = rest.split_at(world.draw(rest.len() as u32 + 1) as usize);
        if pipe.write_all(piece).await.is_err() {
            return false;
        }
        clock::sleep(world.millis(20)).await;
        rest = after;
    }
    is_too_late(pipe, rest) || pipe.write_all(rest).await.is_ok()
}

/// Reads what has arrived, without waiting for more. Whether `unread` holds anything then.
fn has_arrived(pipe: &mut MemoryPipe, unread: &mut Vec<u8>) -> bool {
    let mut room = [0; PIPE_BYTES];
    let mut buffer = ReadBuf::new(&mut room);
    let mut cx = Context::from_waker(Waker::noop());
    if let Poll::Ready(Ok(())) = pin!(pipe).poll_read(&mut cx, &mut buffer) {
        unread.extend_from_slice(buffer.filled());
    }
    !unread.is_empty()
}

/// Closes. A request of which some bytes came counts as arrived, though nobody reads it.
fn leave(world: &World, mut pipe: MemoryPipe, mut unread: Vec<u8>) {
    if has_arrived(&mut pipe, &mut unread) {
        let id = field(&String::from_utf8_lossy(&unread), "x-id: ");
        world.log(|| format!("closed with {id} unread"));
        arrived(world, &id);
    }
}

fn arrived(world: &World, id: &str) {
    *world.arrivals.borrow_mut().entry(id.to_owned()).or_default() += 1;
}

/// The value behind `name` in a head, empty if it is not there.
pub(super) fn field(head: &str, name: &str) -> String {
    head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
}
