//! The whole proxy with a downstream in front of it and an origin behind it, in memory and on paused time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use outrigger::clock;
use outrigger::config::Config;
use outrigger::live::Live;
use outrigger::shared::Shared;
use outrigger::telemetry::metrics::Metrics;
use outrigger::transport::{ByteStream, MemoryPipe};
use outrigger::upstream::connect::{Dial, Dialing};
use outrigger::upstream::endpoint::Target;
use outrigger::upstream::resolve::Addresses;
use outrigger::worker::{Order, Worker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::reference::{self, Reading};

/// Every host leads to the one origin, with a single attempt and without breakers.
const CONFIG: &str = r#"
default_upstream = "origin"
[listen]
idle_timeout = "1s"
head_timeout = "1s"
[upstreams.origin]
endpoints = ["10.0.0.1:80"]
retry.max_attempts = 1
breaker.enabled = false
endpoint_breaker.enabled = false
"#;
const PIPE_BYTES: usize = 64 * 1024;

/// The bytes that arrived on each side.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// What the origin received, per connection.
    pub(crate) to_origin: Vec<Vec<u8>>,
    pub(crate) to_downstream: Vec<u8>,
}

/// The behaviour of the origin.
#[derive(Clone)]
pub(crate) enum Origin {
    /// It sends this response to each request.
    Responds(&'static [u8]),
    /// It sends these bytes after its first request, in pieces of this size, and closes.
    Sends(Vec<u8>, usize),
}

struct Net {
    origin: Origin,
    received: Rc<RefCell<Vec<Vec<u8>>>>,
}

/// The client sends `bytes` in pieces of `size` and reads until its connection ends.
pub(crate) fn play(bytes: &[u8], size: usize, origin: Origin) -> Played {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build_local(LocalOptions::default());
    runtime.expect("a runtime").block_on(async {
        let received = Rc::default();
        let worker = worker(Net { origin, received: Rc::clone(&received) });
        let (_orders, order) = watch::channel(Order::Serve);
        let (_handoff, connections) = mpsc::channel(1);
        tokio::task::spawn_local(Rc::clone(&worker).run(connections, order));
        let (ours, theirs) = MemoryPipe::pair(PIPE_BYTES);
        worker.context().shared.workers[0].connections.fetch_add(1, Relaxed);
        worker.serve(ByteStream::Memory(theirs));
        let (mut from_proxy, mut to_proxy) = tokio::io::split(ours);
        let mut to_downstream = Vec::new();
        let read = from_proxy.read_to_end(&mut to_downstream);
        let write = write_in_pieces(&mut to_proxy, bytes, size);
        // Every connection must end, by its peer or by a limit.
        let ended = tokio::time::timeout(Duration::from_secs(600), async { tokio::join!(read, write) }).await;
        assert!(ended.is_ok(), "the client's connection does not end: {}", bytes.escape_ascii());
        let to_origin = received.take();
        Played { to_origin, to_downstream }
    })
}

fn worker(net: Net) -> Rc<Worker> {
    let config = Config::parse("whole.toml", CONFIG).unwrap_or_else(|faults| panic!("{faults}"));
    let metrics = Metrics::new();
    let live = Live::build(config, None, &Addresses::new(), &metrics, clock::now());
    let shared = Arc::new(Shared::new(live, metrics, 1));
    Worker::new(shared, 0, Box::new(net))
}

async fn write_in_pieces(pipe: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8], size: usize) {
    for piece in bytes.chunks(size.max(1)) {
        if pipe.write_all(piece).await.is_err() {
            return; // the other side has ended
        }
        tokio::task::yield_now().await;
    }
}

impl Dial for Net {
    fn dial(&self, _: &Target) -> Dialing {
        let (ours, theirs) = MemoryPipe::pair(PIPE_BYTES);
        let number = self.received.borrow().len();
        self.received.borrow_mut().push(Vec::new());
        tokio::task::spawn_local(be_origin(theirs, self.origin.clone(), Rc::clone(&self.received), number));
        Box::pin(async { Ok(ByteStream::Memory(ours)) })
    }
}

async fn be_origin(mut pipe: MemoryPipe, origin: Origin, received: Rc<RefCell<Vec<Vec<u8>>>>, number: usize) {
    let (mut piece, mut answered) = (vec![0; 4096], 0);
    while let Ok(n @ 1..) = pipe.read(&mut piece).await {
        received.borrow_mut()[number].extend_from_slice(&piece[..n]);
        loop {
            let text = received.borrow()[number].clone();
            let Reading::Message(message) = reference::request(&text[answered..]) else { break };
            answered += message.length;
            match &origin {
                Origin::Responds(response) if pipe.write_all(response).await.is_ok() => {}
                Origin::Responds(_) => return,
                Origin::Sends(bytes, size) => return write_in_pieces(&mut pipe, bytes, *size).await,
            }
        }
    }
}
