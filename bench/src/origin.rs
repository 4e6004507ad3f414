//! The origin: what stands behind every proxy while it is measured. It sends as many bytes as the path says (`/40`), and may fail a share of requests.
//!
//! A loop written by hand over one thread, because what it costs is taken from the cores that the proxy is measured on: the lab's backend would
//! take twice as much. It reads what proxies write and nothing else: a body needs a `content-length`.
//!
//! `GET /-/stats`, asked directly, returns what has arrived; `/-/fail/100` makes 100 of 1,000 requests fail from now on, `/-/fail_next/1` the next one.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::message::{self, Head};

/// No path asks for more.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What follows a path of control.
const CONTROL: &str = "/-/";

/// What has arrived. Written by the one thread of the origin.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Requests, those of control not counted.
    pub(crate) requests: u64,
    /// Requests that were made to fail.
    pub(crate) failed: u64,
    /// Connections accepted, those of control too.
    pub(crate) connections: u64,
    /// Bytes of requests' bodies.
    pub(crate) body_bytes: u64,
}

struct Origin {
    date: String,
    requests: AtomicU64,
    failed: AtomicU64,
    connections: AtomicU64,
    body_bytes: AtomicU64,
    /// Of 1,000 requests.
    fail_permille: AtomicU64,
    fail_next: AtomicU64,
}

/// Serves on so many ports of loopback until it is killed; the first line of stdout names them.
pub(crate) fn serve(ports: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let origin = Arc::new(Origin {
            date: httpdate::fmt_http_date(SystemTime::now()),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            fail_permille: AtomicU64::new(0),
            fail_next: AtomicU64::new(0),
        });
        let mut addresses = Vec::with_capacity(ports);
        for _ in 0..ports {
            let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
            addresses.push(listener.local_addr()?.to_string());
            tokio::spawn(accept(listener, Arc::clone(&origin)));
        }
        writeln!(io::stdout(), "origin listening on {}", addresses.join(","))?;
        std::future::pending().await
    })
}

async fn accept(listener: TcpListener, origin: Arc<Origin>) {
    loop {
        // The client has disconnected, or descriptors have run out. Either way the load misses responses and reports that.
        let Ok((stream, _)) = listener.accept().await else { continue };
        origin.connections.fetch_add(1, Relaxed);
        let origin = Arc::clone(&origin);
        tokio::spawn(async move {
            // The client has disconnected or sent no HTTP, and notices that by itself.
            let _ = origin.connection(stream).await;
        });
    }
}

impl Origin {
    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut bytes = Vec::with_capacity(16 * 1024);
        let mut response = Vec::new();
        loop {
            let Some(head) = message::head(&mut stream, &mut bytes).await? else { return Ok(()) };
            let whole = head.bytes + head.body_bytes;
            while bytes.len() < whole {
                if stream.read_buf(&mut bytes).await? == 0 {
                    return Ok(());
                }
            }
            self.write_response(&bytes[..head.bytes], &head, &mut response);
            bytes.drain(..whole);
            stream.write_all(&response).await?;
        }
    }

    fn write_response(&self, text: &[u8], head: &Head, response: &mut Vec<u8>) {
        response.clear();
        let path = text.split(|byte| *byte == b' ').nth(1).and_then(|path| std::str::from_utf8(path).ok());
        let path = path.unwrap_or("/");
        if let Some(order) = path.strip_prefix(CONTROL) {
            let body = self.control(order);
            return self.write(response, "200 OK", body.as_bytes());
        }
        let n = self.requests.fetch_add(1, Relaxed);
        self.body_bytes.fetch_add(head.body_bytes as u64, Relaxed);
        if self.fails(n) {
            self.failed.fetch_add(1, Relaxed);
            return self.write(response, "503 Service Unavailable", b"made to fail");
        }
        let size: usize =
            path.trim_start_matches('/').split('/').next().and_then(|size| size.parse().ok()).unwrap_or(40);
        let size = size.min(BODY_BYTES_MAX);
        self.write(response, "200 OK", &[]);
        let length = format!("{size}\r\n\r\n");
        response.truncate(response.len() - "0\r\n\r\n".len());
        response.extend_from_slice(length.as_bytes());
        response.resize(response.len() + size, b'o');
    }

    fn write(&self, response: &mut Vec<u8>, status: &str, body: &[u8]) {
        let (date, length) = (&self.date, body.len());
        // Writing to a Vec cannot fail.
        let _ = write!(
            response,
            "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n"
        );
        response.extend_from_slice(body);
    }

    /// Whether the n-th request fails. It is the same in each run, and independent from one request to the next.
    fn fails(&self, n: u64) -> bool {
        if self.fail_next.load(Relaxed) > 0 {
            self.fail_next.fetch_sub(1, Relaxed);
            return true;
        }
        let permille = self.fail_permille.load(Relaxed);
        permille > 0 && splitmix(n) % 1_000 < permille
    }

    fn control(&self, order: &str) -> String {
        let number = |text: &str| text.parse().unwrap_or(0);
        if let Some(permille) = order.strip_prefix("fail/") {
            self.fail_permille.store(number(permille), Relaxed);
        } else if let Some(count) = order.strip_prefix("fail_next/") {
            self.fail_next.store(number(count), Relaxed);
        }
        let stats = Stats {
            requests: self.requests.load(Relaxed),
            failed: self.failed.load(Relaxed),
            connections: self.connections.load(Relaxed),
            body_bytes: self.body_bytes.load(Relaxed),
        };
        serde_json::to_string(&stats).expect("numbers are JSON")
    }
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014.
fn splitmix(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_requests_fails_and_neighbours_do_not_share_a_fate() {
        let fails: Vec<bool> = (0..100_000).map(|n| splitmix(n) % 1_000 < 100).collect();
        let share = fails.iter().filter(|fails| **fails).count();
        let twice = fails.windows(2).filter(|pair| pair[0] && pair[1]).count();
        assert!((9_700..10_300).contains(&share), "{share}");
        assert!((900..1_100).contains(&twice), "{twice}");
    }
}
