//! The two listening sockets: how the proxy gets them, and how it gives them up without losing connections in their queues.
//!
//! The proxy binds a socket for itself, or beside that of another process on the same port (`listen.reuse_port`), so that a successor can take over. Or it
//! inherits the socket from a service manager that keeps it open after the proxy's end (systemd's `LISTEN_FDS`). `docs/restart.md` says what each means for the
//! operator.
//!
//! An inherited queue stays for the next process, so the proxy leaves it alone. Any other queue is lost when its socket closes. So the proxy empties it first:
//! it serves every connection that the kernel has accepted.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsRawFd;

use listenfd::ListenFd;
use procfs::net::{self, TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::Listen;

/// The length of the queue: the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = i32::MAX;
/// Classic BPF over the TCP header: drops packets that open a connection (SYN) and passes all others. The client sends the SYN again a second later, when only the
/// successor listens.
const NO_NEW_CONNECTIONS: [SockFilter; 4] = [
    SockFilter::new(0x30, 0, 0, 13),       // load the byte of the flags
    SockFilter::new(0x45, 0, 1, 0x02),     // is SYN among them?
    SockFilter::new(0x06, 0, 0, 0),        // drop
    SockFilter::new(0x06, 0, 0, u32::MAX), // pass
];

/// Both listening sockets.
pub struct Listeners {
    /// The app's listener.
    pub app: Listener,
    /// The admin listener.
    pub admin: Listener,
}

/// A bound socket.
pub struct Listener {
    socket: StdTcpListener,
    origin: Origin,
}

/// Where a socket comes from, which says how it is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Bound by this process, exclusively.
    Own,
    /// Bound by this process; other processes of the same user may bind the port too.
    Shared,
    /// Passed by a service manager.
    Inherited,
}

/// Accepts connections until it is asked to close.
pub struct Acceptor {
    tcp: Option<TcpListener>,
    queue: Option<StdTcpListener>,
    origin: Origin,
    closing: watch::Receiver<bool>,
}

impl Listeners {
    /// Takes the sockets that a service manager passed, and binds the others as `listen` says.
    ///
    /// # Errors
    /// A passed descriptor is no listening socket, or an address cannot be bound; the error names it.
    pub fn open(listen: &Listen) -> io::Result<Listeners> {
        // Read first, because `from_env` removes the variables after it has checked that they are meant for this process.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let mut open = |name: &str, address: SocketAddr| match place_of(name, &names, passed.len()) {
            Some(place) => inherit(&mut passed, place, name),
            None => bind(address, listen.reuse_port),
        };
        Ok(Listeners { app: open("app", listen.app)?, admin: open("admin", listen.admin)? })
    }
}

/// The index among `count` passed sockets of the one for `name`. It is found by its name; if no socket has a known name, the app's is the first and the admin's
/// the second.
fn place_of(name: &str, names: &str, count: usize) -> Option<usize> {
    let mut given = names.split(':').take(count);
    if names.split(':').any(|given| matches!(given, "app" | "admin")) {
        return given.position(|given| given == name);
    }
    let place = usize::from(name == "admin");
    (place < count).then_some(place)
}

fn inherit(passed: &mut ListenFd, place: usize, name: &str) -> io::Result<Listener> {
    let unfit = |error: &dyn std::fmt::Display| {
        io::Error::other(format!("the socket that was passed for listen.{name} cannot be used: {error}"))
    };
    let socket = passed.take_tcp_listener(place).map_err(|error| unfit(&error))?;
    let socket = socket.ok_or_else(|| unfit(&"it is not there"))?;
    socket.set_nonblocking(true)?;
    Ok(Listener { socket, origin: Origin::Inherited })
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Listener> {
    let socket = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // So that connections of a former process in TIME_WAIT do not block the port.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(StdTcpListener::from(socket))
    };
    let origin = if reuse_port { Origin::Shared } else { Origin::Own };
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    Ok(Listener { socket: socket().map_err(named)?, origin })
}

impl Listener {
    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// The system does not report the address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Begins to accept connections, until `closing` becomes true.
    ///
    /// # Errors
    /// The runtime does not accept the socket.
    pub fn open(self, closing: watch::Receiver<bool>) -> io::Result<Acceptor> {
        Ok(Acceptor { tcp: Some(TcpListener::from_std(self.socket)?), queue: None, origin: self.origin, closing })
    }

    /// Watches for another process that listens on the same port.
    ///
    /// # Errors
    /// The system does not show the sockets of this process.
    pub fn successor(&self) -> io::Result<Successor> {
        let socket = self.socket.as_raw_fd();
        let own = Process::myself().and_then(|process| process.fd_from_fd(socket)).map_err(io::Error::other)?;
        let FDTarget::Socket(inode) = own.target else { return Err(io::Error::other("no socket")) };
        let is_v6 = self.address()?.is_ipv6();
        Ok(Successor { inode, is_possible: self.origin == Origin::Shared, is_v6 })
    }
}

impl Acceptor {
    /// The next connection; `None` when the acceptor is closed and its queue is empty.
    pub async fn next(&mut self) -> Option<io::Result<TcpStream>> {
        if let Some(tcp) = &self.tcp {
            // Either branch may be dropped: `accept` loses no connection when it is.
            tokio::select! {
                accepted = tcp.accept() => return Some(accepted.map(|(stream, _)| stream)),
                _ = self.closing.wait_for(|closing| *closing) => {}
            }
            self.begin_to_close();
        }
        self.queue.as_ref()?;
        let next = self.take_queued();
        if next.is_none() {
            self.queue = None;
        }
        next
    }

    /// Turns from the runtime's events to plain calls of `accept`, because only these see what is in the kernel's queue at this moment.
    fn begin_to_close(&mut self) {
        let Some(Ok(queue)) = self.tcp.take().map(TcpListener::into_std) else { return };
        if self.origin == Origin::Inherited {
            return;
        }
        if self.origin == Origin::Shared {
            // If the filter cannot be set, connections that come between the last `accept` and the close are reset. Nothing else depends on it.
            let _ = SockRef::from(&queue).attach_filter(&NO_NEW_CONNECTIONS);
        }
        self.queue = Some(queue);
    }

    fn take_queued(&self) -> Option<io::Result<TcpStream>> {
        match self.queue.as_ref()?.accept() {
            Ok((stream, _)) => Some(stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// Looks for another process that listens on the same port.
pub struct Successor {
    inode: u64,
    is_possible: bool,
    is_v6: bool,
}

impl Successor {
    /// Whether there is one. False also if the kernel's table cannot be read.
    pub fn is_there(&self) -> bool {
        if !self.is_possible {
            return false;
        }
        let sockets = if self.is_v6 { net::tcp6() } else { net::tcp() };
        let listening =
            |socket: TcpNetEntry| (socket.state == TcpState::Listen).then_some((socket.local_address, socket.inode));
        sockets.is_ok_and(|sockets| {
            let listening: Vec<_> = sockets.into_iter().filter_map(listening).collect();
            is_shared(&listening, self.inode)
        })
    }
}

/// Whether another of the `listening` sockets, each with its inode, has the address of the one with `inode`.
fn is_shared(listening: &[(SocketAddr, u64)], inode: u64) -> bool {
    let ours = listening.iter().find(|(_, found)| *found == inode);
    ours.is_some_and(|(ours, _)| listening.iter().any(|(address, found)| address == ours && *found != inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_socket_is_found_by_its_name_or_by_its_place() {
        for (name, names, count, place) in [
            ("app", "", 0, None),
            ("app", "", 1, Some(0)),
            ("admin", "", 1, None),
            ("admin", "", 2, Some(1)),
            ("app", "outrigger.socket:outrigger.socket", 2, Some(0)),
            ("app", "admin:app", 2, Some(1)),
            ("admin", "admin:app", 2, Some(0)),
            ("app", "admin", 1, None),
            ("admin", "app:other", 2, None),
        ] {
            assert_eq!(place_of(name, names, count), place, "{name} of {names:?}, {count} in all");
        }
    }

    #[test]
    fn another_listener_on_the_same_address_is_distinguished_from_everything_else() {
        let ours = ("127.0.0.1:4140".parse().expect("an address"), 7);
        for (address, inode, wanted) in [
            ("127.0.0.1:4140", 8, true),
            ("127.0.0.1:4140", 7, false),
            ("127.0.0.1:4141", 8, false),
            ("127.0.0.2:4140", 8, false),
        ] {
            let other = (address.parse().expect("an address"), inode);
            assert_eq!(is_shared(&[ours, other], 7), wanted, "{address}, {inode}");
            assert!(!is_shared(&[(other.0, 8)], 7), "ours is not there");
        }
    }

    #[tokio::test]
    async fn an_acceptor_that_closes_serves_the_connections_that_wait() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        for (reuse_port, origin) in [(false, Origin::Own), (true, Origin::Shared)] {
            let listener = bind(address, reuse_port).expect("a free port");
            assert_eq!(listener.origin, origin);
            let (close, closing) = watch::channel(false);
            let waiting: Vec<_> =
                (0..50).map(|_| std::net::TcpStream::connect(listener.address().expect("bound"))).collect();
            let mut acceptor = listener.open(closing).expect("a runtime");
            close.send(true).expect("the acceptor is there");
            let mut taken = 0;
            while let Some(stream) = acceptor.next().await {
                stream.expect("a connection");
                taken += 1;
            }
            assert_eq!((taken, waiting.iter().filter(|stream| stream.is_ok()).count()), (50, 50));
        }
    }

    #[tokio::test]
    async fn an_inherited_queue_is_left_to_the_next_process() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), false).expect("a free port");
        let next = listener.socket.try_clone().expect("a descriptor");
        let _waiting = std::net::TcpStream::connect(listener.address().expect("bound")).expect("a connection");
        let (close, closing) = watch::channel(false);
        let inherited = Listener { socket: listener.socket, origin: Origin::Inherited };
        let mut acceptor = inherited.open(closing).expect("a runtime");
        close.send(true).expect("the acceptor is there");
        // The acceptor may accept it before it notices that it has to close, but not afterwards.
        let taken = acceptor.next().await.is_some();
        assert!(acceptor.next().await.is_none());
        assert_eq!(next.accept().is_ok(), !taken);
    }

    #[test]
    fn a_shared_port_has_a_successor_when_another_binds_it() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), true).expect("a free port");
        let successor = first.successor().expect("proc");
        assert!(!successor.is_there());
        let address = first.address().expect("bound");
        assert!(bind(address, false).is_err(), "both must agree to share");
        let second = bind(address, true).expect("a shared port");
        assert!(successor.is_there());
        drop(second);
        assert!(!successor.is_there());
    }
}
