//! A port for a process that is restarted: a [`ReservedPort`].

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A port, on which a process may listen again and again, on the loopback interface or on all.
///
/// It is bound on all addresses, so no other process and no outgoing connection gets it between two starts. Until a process
/// listens, connections are refused. The process must set `SO_REUSEADDR`.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddr,
    _socket: Socket,
}

impl ReservedPort {
    /// Reserves a free port. Its address is that of the loopback interface.
    #[track_caller]
    pub fn take() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("a new socket");
        let any: SocketAddr = ([0, 0, 0, 0], 0).into();
        socket.bind(&any.into()).expect("a free port");
        let bound = socket.local_addr().expect("a bound socket");
        let port = bound.as_socket().expect("an address of IPv4").port();
        Self {
            address: ([127, 0, 0, 1], port).into(),
            _socket: socket,
        }
    }

    /// Its address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
