//! Clients. Each sends one request after the other, over a connection that it keeps as long as it can, and checks the responses.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};

use super::super::net::{Bench, read_body, read_head};
use super::World;
use super::endpoint::field;
use super::laws;
use super::scenario::REQUEST_MILLIS;
use crate::clock;
use crate::transport::MemoryPipe;

/// Longer than anything may take: uploads with their pauses, the request, the body of a response.
const EVER: Duration = Duration::from_secs(30);
/// What a request may take beyond its timeout: a tick, the pauses in the endpoint's writing, a superseded response.
const SLACK: Duration = Duration::from_millis(400);

/// The most that is on its way to an endpoint that does not read: what both pipes hold, and what the proxy has staged.
const TAKEN_MAX: usize = 100_000;

/// A request as its client intends it.
struct Request {
    id: String,
    method: &'static str,
    path: String,
    has_key: bool,
    body: String,
    is_chunked: bool,
}

impl Request {
    fn draw(world: &World, id: String) -> Request {
        let method = ["GET", "HEAD", "PUT", "DELETE", "POST", "POST", "PATCH"][world.draw(7) as usize];
        let has_body = matches!(method, "PUT" | "POST" | "PATCH") && world.chance(80);
        let length = if !has_body { 0 } else { world.draw([10, 1_000, 40_000, 200_000][world.draw(4) as usize]) };
        Request {
            path: format!("{}/{id}", ["", "/keyed", "/free"][world.draw(3) as usize]),
            id,
            method,
            has_key: world.chance(50),
            // No two parts of it are alike.
            body: (0..length).map(|at| char::from(b'a' + (at.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect(),
            is_chunked: has_body && world.chance(30),
        }
    }

    /// Whether it may reach endpoints more than once.
    fn is_repeatable(&self) -> bool {
        let is_idempotent = matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE");
        is_idempotent || self.path.starts_with("/free") || (self.path.starts_with("/keyed") && self.has_key)
    }

    fn bytes(&self) -> String {
        let Request { method, path, id, body, .. } = self;
        let key = if self.has_key { format!("idempotency-key: {id}\r\n") } else { String::new() };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: backend\r\nx-id: {id}\r\n{key}");
        match self.is_chunked {
            true if body.is_empty() => format!("{head}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            true => format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            false if body.is_empty() => format!("{head}\r\n"),
            false => format!("{head}content-length: {}\r\n\r\n{body}", body.len()),
        }
    }
}

/// What became of a request that was being sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    Whole,
    /// The proxy took no more.
    Refused,
    /// The client stopped, because the response had come.
    GivenUp,
}

/// A connection that may carry another request.
struct Connection {
    reader: ReadHalf<MemoryPipe>,
    writer: WriteHalf<MemoryPipe>,
    /// Whether the request before may still be on its way to an endpoint that has responded. The next one waits for that.
    is_uploading: bool,
}

impl Connection {
    fn new(pipe: MemoryPipe) -> Connection {
        let (reader, writer) = tokio::io::split(pipe);
        Connection { reader, writer, is_uploading: false }
    }
}

pub(super) async fn live(world: Rc<World>, bench: Rc<Bench>, number: u32) {
    let mut connection: Option<Connection> = None;
    for n in 0..world.scenario.exchanges {
        clock::sleep(world.millis(800)).await;
        if world.is_draining.get() {
            return;
        }
        let request = Request::draw(&world, format!("r{number}-{n}"));
        let taken = connection.take().unwrap_or_else(|| Connection::new(bench.connect_bare()));
        world.under_way.set(world.under_way.get() + 1);
        connection = exchange(&world, taken, &request).await;
        world.under_way.set(world.under_way.get() - 1);
        laws::at_any_time(&world, &bench);
        let arrivals = world.arrivals.borrow().get(&request.id).copied().unwrap_or(0);
        let most = if request.is_repeatable() { world.scenario.attempts_max + 1 } else { 1 };
        if arrivals > most {
            world.violation(format!("{} {} reached endpoints {arrivals} times", request.method, request.path));
        }
    }
}

/// Sends a request and awaits its response. Returns the connection if it can be used again.
async fn exchange(world: &World, connection: Connection, request: &Request) -> Option<Connection> {
    let Connection { mut reader, mut writer, is_uploading: has_waited } = connection;
    world.log(|| format!("{} {} of {} bytes", request.method, request.path, request.body.len()));
    // Some clients go on sending after a response that came early, and some read none before they have sent all.
    let (goes_on, reads_last) = (world.chance(50), world.chance(20));
    let taken = Cell::new(0);
    let leaves_after = if world.chance(10) { world.millis(1_500) } else { EVER };
    let work = async {
        let bytes = request.bytes();
        let mut write = std::pin::pin!(upload(world, &mut writer, bytes.as_bytes(), &taken));
        let mut response = std::pin::pin!(read(&mut reader, request.method == "HEAD"));
        let mut is_written = false;
        let response = loop {
            // Biased to the upload, so that a response that comes with its end comes after it.
            tokio::select! {
                biased;
                () = &mut write, if !is_written => is_written = true,
                response = &mut response, if is_written || !reads_last => break response,
            }
        };
        let responded_at = clock::now();
        if !is_written && goes_on && response.is_some() {
            write.await;
            is_written = true;
        }
        let sent = match (is_written, taken.get() == bytes.len()) {
            (true, true) => Sent::Whole,
            (true, false) => Sent::Refused,
            (false, _) => Sent::GivenUp,
        };
        (response, sent, responded_at)
    };
    let started = clock::now();
    let Some((response, sent, responded_at)) = clock::until(started + leaves_after, work).await else {
        world.log(|| format!("{} leaves", request.id));
        if leaves_after == EVER {
            world.violation(format!("{} {} has no outcome", request.method, request.path));
        }
        return None;
    };
    world.awaited.set(world.awaited.get() + 1);
    let Some((head, body)) = response else {
        world.log(|| format!("{} is broken off", request.id));
        return None;
    };
    check(world, request, &head, &body);
    check_taken(world, request, &head, sent, taken.get());
    let is_written = sent == Sent::Whole;
    let number = field(&head, "x-response: ").parse::<usize>().ok();
    let is_uploading = number.is_some_and(|number| world.received.borrow().contains_key(&number));
    let limit = Duration::from_millis(REQUEST_MILLIS) + SLACK;
    if !has_waited && request.body.len() < 1_000 && is_written && body.len() < 1_000 && responded_at - started > limit {
        world.violation(format!("{} {} took {:?}", request.method, request.path, responded_at - started));
    }
    (is_written && !head.contains("connection: close")).then_some(Connection { reader, writer, is_uploading })
}

/// Writes in a few pieces with pauses, until the proxy reads no more. `taken` counts the bytes.
async fn upload(world: &World, writer: &mut WriteHalf<MemoryPipe>, bytes: &[u8], taken: &Cell<usize>) {
    let mut rest = bytes;
    let pauses = world.chance(30);
    while !rest.is_empty() {
        let most = if pauses { (rest.len() as u32).div_ceil(2) } else { rest.len() as u32 };
        let (mut piece, after) = rest.split_at(1 + world.draw(most) as usize);
        while !piece.is_empty() {
            let Ok(n) = writer.write(piece).await else { return };
            taken.set(taken.get() + n);
            piece = &piece[n..];
        }
        if pauses {
            clock::sleep(world.millis(30)).await;
        }
        rest = after;
    }
}

/// Head, in lower case, and body of the response; `None` if the connection ends before it is whole.
async fn read(reader: &mut ReadHalf<MemoryPipe>, is_to_head: bool) -> Option<(String, String)> {
    let mut unread = Vec::new();
    loop {
        let head = read_head(reader, &mut unread).await?.to_ascii_lowercase();
        if head.starts_with("http/1.1 1") {
            continue;
        }
        let body = if is_to_head { String::new() } else { read_body(reader, &mut unread, &head).await? };
        return Some((head, body));
    }
}

/// Notes a request that was answered with success and sent whole. Checks that one whose endpoint reads on could be sent whole, and that no more of one was taken than
/// is on its way.
fn check_taken(world: &World, request: &Request, head: &str, sent: Sent, taken: usize) {
    let Ok(number) = field(head, "x-response: ").parse::<usize>() else { return };
    match sent {
        Sent::Whole if head.starts_with("http/1.1 200") => {
            world.sent.borrow_mut().push((number, request.body.clone()));
        }
        Sent::Refused if world.received.borrow().contains_key(&number) => {
            world.violation(format!("{}: its endpoint reads on, but the proxy took only {taken} bytes", request.id));
        }
        Sent::Whole | Sent::Refused | Sent::GivenUp => {}
    }
    if world.deaf.borrow().contains(&number) && taken > TAKEN_MAX {
        world.violation(format!("{}: {taken} bytes were taken for an endpoint that does not read", request.id));
    }
}

/// Checks that a whole response belongs to this request and is as the endpoint sent it.
fn check(world: &World, request: &Request, head: &str, body: &str) {
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    world.log(|| format!("{} is answered {status} with {} bytes", request.id, body.len()));
    let number = field(head, "x-response: ");
    if number.is_empty() {
        let is_ours = head.contains("proxy-status: outrigger; error=");
        if !is_ours {
            world.violation(format!("{}: a response that no endpoint sent: {head}", request.id));
        }
        return;
    }
    if status == "200" {
        world.succeeded.set(world.succeeded.get() + 1);
    }
    let responses = world.responses.borrow();
    let sent = number.parse::<usize>().ok().and_then(|number| responses.get(number));
    match sent {
        Some((id, _)) if *id != request.id => world.violation(format!("{} got the response of {id}", request.id)),
        Some((_, whole)) if whole == body => {}
        Some((_, whole)) => {
            world.violation(format!(
                "{}: {} bytes of a response of {} pass for a whole one",
                request.id,
                body.len(),
                whole.len()
            ));
        }
        None => world.violation(format!("{}: a response with an unknown number: {head}", request.id)),
    }
}
