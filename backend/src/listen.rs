//! Accepting connections, the same for both ports.
//!
//! The number of connections is bounded by the process's file descriptors and nothing else; when they run out, clients
//! wait in the kernel's queue.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The wait after a failed accept. Without it, running out of descriptors would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds, and says which address could not be bound.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    TcpListener::bind(address).await.map_err(named)
}

/// Serves each connection in a task of its own, for ever. The tasks end with this future.
pub(crate) async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        // Both branches may be dropped midway: neither takes anything before it is ready.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream));
                }
                Err(error) => {
                    eprintln!("backend: cannot accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            // Only reaped; a panic has been reported by the panic hook and ends its own connection.
            Some(_) = connections.join_next() => {}
        }
    }
}
