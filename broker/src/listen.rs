//! The ports of a broker: one that all shards share, and one for each shard if wanted.
//!
//! Several shards each have a listening socket on the shared port; the kernel deals new
//! connections out among them. Such a port could be shared with a second broker by mistake, so
//! the first socket takes the port for itself, listens, and only then lets the others join.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::SockRef;

/// Connections that may wait to be accepted, on each socket.
const BACKLOG: i32 = 4096;
/// What the kernel takes of a connection beyond what is under way to the peer, in bytes. It would
/// take megabytes of each that reads nothing: a thousand of them fill all that it has for sockets,
/// and then nobody's bytes move. Bytes under way are bounded by the peer's window alone, so that
/// long ways are as fast as they were.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// How long to wait for a port in use: the kernel keeps those of a broker that was killed for some
/// milliseconds more, until its rings are at rest.
const PORT_WAIT_MAX: Duration = Duration::from_secs(1);
const PORT_LOOK: Duration = Duration::from_millis(2);

/// Whether shards listen on ports of their own besides the shared one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShardPorts {
    /// One port for all.
    #[default]
    Off,
    /// Shard `i` listens on the `i + 1`th port behind the shared one; on any free one if that
    /// was any free one.
    On,
}

impl std::str::FromStr for ShardPorts {
    type Err = String;

    fn from_str(text: &str) -> Result<ShardPorts, String> {
        match text {
            "on" => Ok(ShardPorts::On),
            "off" => Ok(ShardPorts::Off),
            _ => Err(format!("{text:?} is neither on nor off")),
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenError {
    address: SocketAddr,
    errno: Errno,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError { address, errno } = self;
        if *errno == Errno::ADDRINUSE {
            let port = address.port();
            return write!(
                f,
                "the port {port} is in use: stop who has it, or listen on another (0 takes a \
                 free one)"
            );
        }
        write!(f, "{address} cannot be listened on ({errno}): choose another address")
    }
}

impl std::error::Error for ListenError {}

/// Sockets that listen.
#[derive(Debug)]
pub struct Listening {
    /// The address that all shards share.
    pub address: SocketAddr,
    /// The ports of the shards, if they have their own.
    pub shard_ports: Vec<u16>,
    /// The sockets of each shard.
    pub sockets: Vec<Vec<TcpListener>>,
}

impl Listening {
    /// Listens for this many shards.
    pub fn open(
        address: SocketAddr,
        shards: u16,
        shard_ports: ShardPorts,
    ) -> Result<Listening, ListenError> {
        let first = sole(address)?;
        let failed = |errno| ListenError { address, errno };
        let wanted = address;
        let address = first.local_addr().map_err(|_| failed(Errno::IO))?;
        let mut sockets = vec![vec![first]];
        if shards > 1 {
            sockopt::set_socket_reuseport(&sockets[0][0], true).map_err(failed)?;
        }
        for _ in 1..shards {
            let socket = socket(address).map_err(failed)?;
            sockopt::set_socket_reuseport(&socket, true).map_err(failed)?;
            sockets.push(vec![bound(socket, address).map_err(failed)?]);
        }
        let mut ports = Vec::new();
        if shard_ports == ShardPorts::On {
            for (shard, sockets) in (0..shards).zip(&mut sockets) {
                let port = if wanted.port() == 0 { 0 } else { wanted.port() + 1 + shard };
                let socket = sole(SocketAddr::new(address.ip(), port))?;
                ports.push(socket.local_addr().map_err(|_| failed(Errno::IO))?.port());
                sockets.push(socket);
            }
        }
        Ok(Listening { address, shard_ports: ports, sockets })
    }

    /// Where clients find each shard, if they are told to connect to this host.
    pub fn endpoints(&self, host: &str) -> Vec<(String, u16)> {
        let port = |shard| self.shard_ports.get(shard).copied().unwrap_or(self.address.port());
        (0..self.sockets.len()).map(|shard| (host.to_owned(), port(shard))).collect()
    }
}

/// A socket that has its port for itself.
fn sole(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listening = patiently(|| socket(address).and_then(|socket| bound(socket, address)));
    listening.map_err(|errno| ListenError { address, errno })
}

/// Tries again while a port is in use.
fn patiently<T>(mut listen: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let began = Instant::now();
    loop {
        match listen() {
            Err(Errno::ADDRINUSE) if began.elapsed() < PORT_WAIT_MAX => thread::sleep(PORT_LOOK),
            listening => return listening,
        }
    }
}

/// Accepted sockets inherit the listener's options.
fn socket(address: SocketAddr) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    SockRef::from(&socket)
        .set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
        .map_err(|error| errno(&error))?;
    Ok(TcpListener::from(socket))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn bound(socket: TcpListener, address: SocketAddr) -> Result<TcpListener, Errno> {
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::net::TcpStream;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn the_kernel_deals_connections_out_among_the_shards() {
        let listening = Listening::open(ANY, 3, ShardPorts::Off).expect("a free port");
        assert_eq!((listening.sockets.len(), listening.shard_ports.len()), (3, 0));
        let clients: Vec<TcpStream> =
            (0..200).map(|_| TcpStream::connect(listening.address).expect("it listens")).collect();
        let accepted = listening.sockets.iter().map(|sockets| {
            sockets[0].set_nonblocking(true).expect("sockets can");
            let is_there = |socket: &TcpListener| match socket.accept() {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                Err(error) => panic!("{error}"),
            };
            std::iter::repeat_with(|| is_there(&sockets[0])).take_while(|there| *there).count()
        });
        let accepted: Vec<usize> = accepted.collect();
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        assert!(accepted.iter().all(|count| *count > 20), "about a third each: {accepted:?}");
    }

    #[test]
    fn the_kernel_takes_little_of_a_connection_that_reads_nothing() {
        const CHUNK_BYTES: usize = 16 * 1024;
        let listening = Listening::open(ANY, 1, ShardPorts::Off).expect("a free port");
        let _reads_nothing = TcpStream::connect(listening.address).expect("it listens");
        let (mut accepted, _) = listening.sockets[0][0].accept().expect("it is there");
        accepted.set_nonblocking(true).expect("sockets can");
        let taken = std::iter::repeat_with(|| accepted.write(&[7; CHUNK_BYTES]).unwrap_or(0));
        let taken: usize = taken.take_while(|bytes| *bytes > 0).sum();
        let most = 8 * usize::try_from(UNSENT_BYTES_MAX).expect("it is small");
        assert!((CHUNK_BYTES..most).contains(&taken), "{taken} bytes");
    }

    #[test]
    fn a_second_broker_is_refused_whatever_the_first_shares() {
        let is_refused = |first, second| {
            let listening = Listening::open(ANY, first, ShardPorts::Off).expect("a free port");
            let refused = Listening::open(listening.address, second, ShardPorts::On);
            let sentence = refused.expect_err("it is in use").to_string();
            let port = listening.address.port();
            assert!(sentence.contains(&format!("the port {port} is in use")), "{sentence}");
        };
        // At once: each waits for the port before it is refused.
        thread::scope(|scope| {
            for (first, second) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
                scope.spawn(move || is_refused(first, second));
            }
        });
    }

    /// As it is with the port of a broker that was killed.
    #[test]
    fn a_port_that_becomes_free_is_waited_for() {
        let mut tries = 0;
        let mut listen = |last| {
            patiently(|| {
                tries += 1;
                if tries % 4 == 0 { last } else { Err(Errno::ADDRINUSE) }
            })
        };
        assert_eq!(listen(Ok(7)), Ok(7));
        assert_eq!(listen(Err(Errno::ACCESS)), Err(Errno::ACCESS));
        assert_eq!(tries, 8);
    }

    #[test]
    fn shards_are_found_on_their_own_ports_or_on_the_shared_one() {
        let shared = Listening::open(ANY, 2, ShardPorts::Off).expect("a free port");
        let port = shared.address.port();
        assert_eq!(shared.endpoints("a.b"), [("a.b".to_owned(), port), ("a.b".to_owned(), port)]);
        let own = Listening::open(ANY, 2, ShardPorts::On).expect("free ports");
        let ports: Vec<u16> = own.endpoints("").into_iter().map(|(_, port)| port).collect();
        assert_eq!(ports, own.shard_ports);
        assert!(ports[0] != ports[1] && !ports.contains(&own.address.port()));
        for (shard, port) in ports.iter().enumerate() {
            let stream = TcpStream::connect((own.address.ip(), *port)).expect("it listens");
            let (_, from) = own.sockets[shard][1].accept().expect("on its own socket");
            assert_eq!(from, stream.local_addr().expect("connected"));
        }
    }
}
