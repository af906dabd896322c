//! The sender in Rust of these tests: [`send`] drives `framing_core::blocking::Link` over TCP, with reconnects.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use blocksd_tests::process::DEADLINE;
use embedded_io::{ErrorType, Read, ReadReady, Write};
use embedded_io_adapters::std::FromStd;
use framing_core::blocking::{Link, Turn};
use framing_core::session::{Device, Full, Heard, LinkError, PushError, SessionSender};
use socket2::SockRef;

use super::senders::Setup;

/// Pause while nothing can be done, and before each connection.
const PAUSE: Duration = Duration::from_millis(2);

/// Sends the messages until all are acknowledged. Returns 0 then, and 1 if that is not so in time, or if messages were
/// dropped or refused.
pub(super) fn send(to: &str, messages: &[String], setup: Setup) -> i32 {
    let full = match setup.drop_oldest {
        true => Full::DropOldest,
        false => Full::Refuse,
    };
    let mut sender: SessionSender<_> = SessionSender::new(vec![0; setup.room as usize], full);
    let mut queue = Queue {
        messages,
        kept: 0,
        is_incomplete: false,
    };
    let until = Instant::now() + Duration::from_secs(setup.timeout_s.into());
    while !(queue.is_kept() && sender.is_settled()) {
        if until < Instant::now() {
            return 1;
        }
        let over = connection(to, &mut sender, &mut queue, until);
        eprintln!("{over:?}");
        sender.closed();
        let retry_s = match over {
            Err(LinkError::Closing { retry_s, .. }) => retry_s,
            _ => 0,
        };
        sleep(Duration::from_secs(retry_s.into()).max(PAUSE));
    }
    queue.is_incomplete.into()
}

/// Messages on their way into the ring.
struct Queue<'a> {
    messages: &'a [String],
    kept: usize,
    is_incomplete: bool,
}

impl Queue<'_> {
    fn is_kept(&self) -> bool {
        self.kept == self.messages.len()
    }

    /// Pushes messages until the ring is full. Returns whether everything was pushed.
    fn push(&mut self, mut push: impl FnMut(&[u8]) -> Result<u32, PushError>) -> bool {
        while let Some(message) = self.messages.get(self.kept) {
            match push(message.as_bytes()) {
                Ok(dropped) => self.is_incomplete |= dropped > 0,
                Err(PushError::TooLong { .. }) => self.is_incomplete = true,
                Err(_) => break,
            }
            self.kept += 1;
        }
        self.is_kept()
    }
}

/// Runs one connection until it is over or everything is acknowledged.
fn connection(
    to: &str,
    sender: &mut SessionSender<Vec<u8>>,
    queue: &mut Queue<'_>,
    until: Instant,
) -> Result<(), LinkError<io::Error>> {
    let stream = TcpStream::connect(to).map_err(LinkError::Io)?;
    stream
        .set_read_timeout(Some(DEADLINE))
        .map_err(LinkError::Io)?;
    let device = Device::new("device-1").expect("a device id");
    let mut link = Link::open(sender, Half(&stream), Half(&stream), &device, 0)?;
    let (mut heard_at, mut silence_max) = (Instant::now(), Duration::from_secs(10));
    let mut ended = None;
    while Instant::now() < until {
        let is_done = queue.push(|message| link.push(message));
        match link.turn(0)? {
            Turn::Heard(heard) => {
                heard_at = Instant::now();
                if let Heard::Welcome { heartbeat_s, .. } = heard {
                    silence_max = match heartbeat_s {
                        0 => Duration::MAX,
                        _ => Duration::from_secs(3 * u64::from(heartbeat_s)),
                    };
                }
            }
            Turn::Worked => {}
            Turn::Idle if is_done && link.sender().is_settled() => return Ok(()),
            Turn::Idle => {
                // Also if the ring is full: the host acknowledges after END.
                if ended.replace(queue.kept) != Some(queue.kept) {
                    link.sender().end();
                }
                if silence_max < heard_at.elapsed() {
                    return Err(LinkError::Closed);
                }
                sleep(PAUSE);
            }
        }
    }
    Ok(())
}

/// One direction of a stream: the standard adapter, and whether a read waits.
struct Half<'a>(&'a TcpStream);

impl ErrorType for Half<'_> {
    type Error = io::Error;
}

impl Read for Half<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        FromStd::new(self.0).read(buf)
    }
}

impl Write for Half<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        FromStd::new(self.0).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        FromStd::new(self.0).flush()
    }
}

impl ReadReady for Half<'_> {
    fn read_ready(&mut self) -> io::Result<bool> {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        match SockRef::from(self.0).recv_with_flags(&mut [MaybeUninit::uninit()], flags) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
            // Also at the end, which a read returns at once.
            Ok(_) => Ok(true),
        }
    }
}
