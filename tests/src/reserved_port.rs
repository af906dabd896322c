//! A port for a process that is restarted: a [`ReservedPort`].

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A port of the loopback interface, on which a process may listen again and again.
///
/// It is bound, so no other process and no outgoing connection gets it between two starts. Until a process listens, connections
/// are refused. The process must set `SO_REUSEADDR`.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddr,
    _socket: Socket,
}

impl ReservedPort {
    /// Reserves a free port.
    #[track_caller]
    pub fn take() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("a new socket");
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&any.into()).expect("a free port");
        let address = socket.local_addr().expect("a bound socket");
        Self {
            address: address.as_socket().expect("an address of IPv4"),
            _socket: socket,
        }
    }

    /// Its address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
