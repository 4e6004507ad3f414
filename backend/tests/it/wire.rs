//! A client that knows as little HTTP as it can: it writes bytes and reads bytes, so that what it sees is what was sent.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use backend::received::{IdFilter, Report};
use backend::{Backend, Options, Plan};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Whatever takes this long is stuck. No test comes near it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The body of every good response.
pub(crate) const MESSAGE: &str = r#"{ "message": "Hello from Backend!" }"#;

pub(crate) async fn start(faults: &str) -> Backend {
    let plan = Plan::from_json(faults.as_bytes()).expect("the test's faults are valid");
    Backend::start(Options::on_loopback(plan)).await.expect("loopback has free ports")
}

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: still nothing after {PATIENCE:?}"))
}

/// Waits until the backend's counts are as they should become.
pub(crate) async fn until(backend: &Backend, what: &str, is_so: impl Fn(&Report) -> bool) {
    let started = Instant::now();
    while !is_so(&backend.received(IdFilter::All)) {
        assert!(started.elapsed() < PATIENCE, "{what}: not so after {PATIENCE:?}");
        tokio::task::yield_now().await;
    }
}

/// One response, as far as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// How the connection ended before the announced length; `None` if the body is whole.
    pub(crate) broken_by: Option<Broken>,
}

/// How a read can end too early.
#[derive(Debug, PartialEq)]
pub(crate) enum Broken {
    Eof,
    Reset,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{:?} is no JSON: {error}", self.body))
    }
}

pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the backend listens");
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.expect("the backend reads");
    }

    /// Reads once more; the error says how the connection ended.
    async fn read_more(&mut self) -> Result<(), Broken> {
        match patiently("read", self.stream.read_buf(&mut self.buffer)).await {
            Ok(0) => Err(Broken::Eof),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Broken::Reset),
            Err(error) => panic!("read: {error}"),
        }
    }

    pub(crate) async fn head(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect();
                return Ok(String::from_utf8(head).expect("a head is text"));
            }
            self.read_more().await?;
        }
    }

    /// Reads a response whose length is announced.
    pub(crate) async fn response(&mut self) -> Result<Response, Broken> {
        self.response_to("GET").await
    }

    pub(crate) async fn response_to(&mut self, method: &str) -> Result<Response, Broken> {
        let head = self.head().await?;
        let status = head[9..12].parse().expect("a status line has a status");
        let mut response = Response { status, head, body: String::new(), broken_by: None };
        let announced: usize = response.header("content-length").map_or(0, |text| text.parse().expect("a number"));
        let body_bytes = if method == "HEAD" { 0 } else { announced };
        while self.buffer.len() < body_bytes && response.broken_by.is_none() {
            response.broken_by = self.read_more().await.err();
        }
        let body = self.buffer.drain(..body_bytes.min(self.buffer.len())).collect();
        response.body = String::from_utf8(body).expect("our bodies are text");
        Ok(response)
    }

    /// What comes after everything that was expected.
    pub(crate) async fn end(&mut self) -> Broken {
        match self.read_more().await {
            Ok(()) => panic!("more bytes: {:?}", String::from_utf8_lossy(&self.buffer)),
            Err(broken) => broken,
        }
    }

    /// True if no reset has come, not even behind the end, where a read no longer shows it.
    pub(crate) fn is_unharmed(&self) -> bool {
        self.stream.take_error().expect("a socket tells its error").is_none()
    }

    /// True if there is nothing to read and the connection is open, now and for a tenth of a second.
    pub(crate) async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(100), self.stream.read_buf(&mut self.buffer)).await.is_err()
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(address: SocketAddr, request_line: &str, body: &str) -> Result<Response, Broken> {
    let mut wire = Wire::to(address).await;
    let length = body.len();
    wire.send(&format!("{request_line} HTTP/1.1\r\nhost: backend\r\ncontent-length: {length}\r\n\r\n{body}")).await;
    wire.response_to(request_line.split(' ').next().unwrap_or_default()).await
}
