//! The byte relay: the least that a proxy can cost. Two threads, two sockets for each connection, and bytes are passed on unread.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use tokio::sync::mpsc;

/// As many threads as every measured proxy has.
const THREADS: usize = 2;

/// Relays until it is killed.
pub(crate) fn serve(listen: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    let workers: Vec<_> = (0..THREADS).map(|_| worker(to)).collect::<io::Result<_>>()?;
    writeln!(io::stdout(), "relay listening on {}", listener.local_addr()?)?;
    // Turn by turn, so that both have the same number.
    for worker in workers.iter().cycle() {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        worker.send(stream).map_err(|_| io::Error::other("a worker has ended"))?;
    }
    Ok(())
}

fn worker(to: SocketAddr) -> io::Result<mpsc::UnboundedSender<TcpStream>> {
    let (sender, mut accepted) = mpsc::unbounded_channel::<TcpStream>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    thread::Builder::new().name("relay".to_owned()).spawn(move || {
        runtime.block_on(async {
            while let Some(stream) = accepted.recv().await {
                tokio::spawn(async move {
                    // Either end has gone: both are closed, and the load counts it.
                    let _ = relay(stream, to).await;
                });
            }
        });
    })?;
    Ok(sender)
}

async fn relay(stream: TcpStream, to: SocketAddr) -> io::Result<()> {
    let mut near = tokio::net::TcpStream::from_std(stream)?;
    let mut far = tokio::net::TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}
