//! Makes connections to endpoints.

use std::io;
use std::pin::Pin;
use std::time::Instant;

use outrigger_policy::outcome::Outcome;
use rustix::io::Errno;
use tokio::net::TcpStream;

use super::endpoint::Target;
use super::stream::SendFailure;
use crate::clock;
use crate::error::ProxyError;
use crate::transport::ByteStream;

/// A connection that is being made.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<ByteStream>>>>;

/// Makes connections. Tests replace it by an in-memory network.
pub trait Dial {
    /// Connects to `target`.
    fn dial(&self, target: &Target) -> Dialing;
}

/// Connects over TCP.
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, target: &Target) -> Dialing {
        let address = target.address;
        Box::pin(async move {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            Ok(ByteStream::Tcp(tcp))
        })
    }
}

/// Waits for the connection until `deadline`.
///
/// # Errors
/// The outcome always proves that nothing was sent.
pub(super) async fn within(dialing: Dialing, deadline: Instant) -> Result<ByteStream, SendFailure> {
    let failed = |error| SendFailure { outcome: Outcome::ConnectFailed, error };
    match clock::until(deadline, dialing).await {
        Some(Ok(stream)) => Ok(stream),
        None => Err(failed(ProxyError::ConnectTimeout)),
        Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(failed(ProxyError::ConnectRefused)),
        // Nothing reached the endpoint, so this says nothing about it.
        Some(Err(error)) if lacks_local_socket(&error) => {
            Err(SendFailure { outcome: Outcome::NoLocalSocket, error: ProxyError::NoLocalSocket })
        }
        Some(Err(_)) => Err(failed(ProxyError::ConnectFailed)),
    }
}

/// Whether the system had no socket for the connection (no descriptors, no memory, no port), so that nothing reached the endpoint.
fn lacks_local_socket(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    lacks.iter().any(|lack| error.raw_os_error() == Some(lack.raw_os_error()))
}
