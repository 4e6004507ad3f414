//! `outrigger ready`: asks a running proxy whether it is ready, again and again for a while.
//!
//! An image with nothing but this program has no curl for a `postStart` hook, which has to wait for the sidecar where Kubernetes does not (below 1.29).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use outrigger::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::failure::Failure;

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(50);
const YES: &[u8] = b"HTTP/1.1 200 ";

/// Waits until the proxy with the admin port `admin` is ready.
///
/// # Errors
/// The proxy is not ready `within` that time, or no runtime can be created.
pub(super) fn wait(admin: SocketAddr, within: Duration) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Other(error.to_string()))?;
    let ready = runtime.block_on(async {
        let asking = async {
            // A refused connection or any other response means: ask again.
            while !ask(admin).await.unwrap_or(false) {
                clock::sleep(PAUSE).await;
            }
        };
        clock::until(clock::now() + within, asking).await
    });
    ready.ok_or_else(|| Failure::Other(format!("not ready at {admin} within {within:?}")))
}

async fn ask(admin: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(format!("GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut line = [0; YES.len()];
    stream.read_exact(&mut line).await?;
    Ok(line == *YES)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;

    /// A server that sends one of the responses to each connection, in turn, and then stops listening.
    fn responding(responses: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for response in responses {
                let (mut stream, _) = listener.accept().expect("a connection");
                // The other side may have gone.
                let _ = stream.write_all(response.as_bytes());
            }
        });
        address
    }

    #[test]
    fn it_waits_for_a_yes_and_no_longer_than_it_may() {
        let soon = responding(&["", "HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]);
        assert!(wait(soon, Duration::from_secs(20)).is_ok());
        let never = responding(&["HTTP/1.1 503 Service Unavailable\r\n\r\n"]);
        assert!(wait(never, Duration::from_millis(200)).is_err());
    }
}
