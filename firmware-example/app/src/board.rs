//! What boards with embassy-net share: sampling and sending in one call ([`telemetry`]), and a name for each board.

use core::fmt::Write as _;
use core::net::SocketAddrV4;

use embassy_net::Stack;
use framing_uplink::embassy::{EmbassyClock, Frames, Tcp};
use framing_uplink::{Device, Full, Ring, Session, SessionMemory, Stop};
use heapless::String;

use crate::{Machine, Plan, run_session, tail};

/// Takes a sample each second, and sends the samples to `server` over an acknowledged session, until the board is switched off.
///
/// `memory` keeps the samples that the server does not have on its disk. `frames` belongs to the driver of the stack
/// ([`Counted`](framing_uplink::embassy::Counted)), `stack_bytes` measures the highest stack use, and `seed` is a random number.
pub async fn telemetry<const N: usize>(
    stack: Stack<'_>,
    frames: &Frames,
    server: SocketAddrV4,
    device: Device<'_>,
    memory: &mut SessionMemory<N>,
    stack_bytes: fn() -> u32,
    seed: u32,
) {
    let ring = Ring::<512>::new(Full::DropOldest);
    let (mut receive, mut send) = ([0; 128], [0; 4096]);
    let mut server = Tcp::new(stack, server, &mut receive, &mut send).with_frames(frames);
    let mut session = Session::new(device, memory, Full::DropOldest, seed).with_tail(tail);
    let mut board = Board {
        frames,
        stack_bytes,
    };
    run_session(
        Plan::default(),
        &ring,
        &mut session,
        &Stop::new(),
        &mut board,
        &EmbassyClock,
        &mut server,
    )
    .await;
}

/// The name of a board at the server: its kind, and what makes it unique, such as its hardware address. Cut off at 64 bytes.
#[must_use]
pub fn device_name(kind: &str, unique: &[u8]) -> String<64> {
    let mut name = String::new();
    let _ = write!(name, "{kind}-");
    for byte in unique {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

struct Board<'a> {
    frames: &'a Frames,
    stack_bytes: fn() -> u32,
}

impl Machine for Board<'_> {
    fn stack_bytes(&mut self) -> u32 {
        (self.stack_bytes)()
    }

    fn frames_received(&mut self) -> u32 {
        self.frames.received()
    }

    fn frames_sent(&mut self) -> u32 {
        self.frames.sent()
    }
}

#[cfg(test)]
mod tests {
    use framing_uplink::Device;

    use super::device_name;

    #[test]
    fn a_name_is_one_that_the_server_takes() {
        let name = device_name("w5500-evb-pico", &[0x02, 0, 0xff, 0x10, 0xab, 9]);

        assert_eq!(name, "w5500-evb-pico-0200ff10ab09");
        assert!(Device::new(&name).is_ok());
        assert_eq!(device_name("long", &[0; 64]).len(), 64);
    }
}
