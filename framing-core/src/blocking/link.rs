//! One connection of an acknowledged session. Start with [`Link`].

use embedded_io::{ErrorType, Read, ReadReady, Write};

use super::Reader;
use crate::fault::ReceiveError;
use crate::framings::Blocks;
use crate::received::Received;
use crate::receiver::Polled;
use crate::session::link::hear;
use crate::session::wire::{DOWN_MAX, HELLO_WIRE_MAX};
use crate::session::{Device, Heard, LinkError, Mode, PushError, SessionSender};

/// One connection of a [`SessionSender`], over the two halves of a transport.
///
/// `now` of each call is the device's clock in µs, or 0. There are no timeouts here. Close the connection if no WELCOME
/// comes within 10 s, or no frame within three times the heartbeat of the WELCOME.
///
/// ```
/// use framing_core::blocking::Link;
/// use framing_core::embedded_io::{ErrorType, Read, ReadReady, Write};
/// use framing_core::session::{Device, Full, LinkError, SessionSender};
///
/// /// Sends everything that `sender` holds over one connection.
/// fn deliver<R, W>(sender: &mut SessionSender<[u8; 4096]>, read: R, write: W) -> Result<(), LinkError<R::Error>>
/// where
///     R: Read + ReadReady,
///     W: Write + ErrorType<Error = R::Error>,
/// {
///     let device = Device::new("boiler-7").expect("a device id");
///     let mut link = Link::open(sender, read, write, &device, 0)?;
///     link.finish(|| 0)
/// }
/// ```
#[derive(Debug)]
pub struct Link<'s, B, M, R, W> {
    sender: &'s mut SessionSender<B, M>,
    reader: Reader<R, Blocks, [u8; DOWN_MAX]>,
    write: W,
}

impl<'s, B, M, R, W> Link<'s, B, M, R, W>
where
    B: AsRef<[u8]> + AsMut<[u8]>,
    M: Mode,
    R: Read + ReadReady,
    W: Write + ErrorType<Error = R::Error>,
{
    /// Begins a connection: writes the HELLO. [`turn`](Self::turn) then returns the WELCOME.
    ///
    /// # Errors
    /// [`LinkError::Io`] or [`LinkError::WriteZero`].
    pub fn open(
        sender: &'s mut SessionSender<B, M>,
        read: R,
        mut write: W,
        device: &Device<'_>,
        now: u64,
    ) -> Result<Self, LinkError<R::Error>> {
        let mut hello = [0; HELLO_WIRE_MAX];
        let mut rest = sender.hello(device, now, &mut hello);
        while !rest.is_empty() {
            match write.write(rest).map_err(LinkError::Io)? {
                0 => return Err(LinkError::WriteZero),
                len => rest = rest.get(len..).unwrap_or_default(),
            }
        }
        write.flush().map_err(LinkError::Io)?;
        Ok(Self {
            sender,
            reader: Reader::new(read, Blocks, [0; DOWN_MAX]),
            write,
        })
    }

    /// Does one thing that can be done: reads once, if bytes have arrived, or writes once. Returns [`Turn::Idle`] if there is
    /// neither. Only the write can wait.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over.
    pub fn turn(&mut self, now: u64) -> Result<Turn, LinkError<R::Error>> {
        self.turn_with(now, |_| ())
    }

    /// As [`turn`](Self::turn), and passes a received frame to `frame` before the sender takes it: for the host's
    /// [time](crate::session::wire::time_ns).
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn turn_with(
        &mut self,
        now: u64,
        frame: impl FnOnce(&[u8]),
    ) -> Result<Turn, LinkError<R::Error>> {
        if self.reader.io_mut().read_ready().map_err(LinkError::Io)? {
            let heard = match receive_ready(&mut self.reader).transpose() {
                Some(received) => {
                    if let Ok(Received::Message(bytes)) = received {
                        frame(bytes);
                    }
                    hear(self.sender, received)?
                }
                None => None,
            };
            return Ok(heard.map_or(Turn::Worked, Turn::Heard));
        }
        let chunk = self.sender.chunk(now);
        if chunk.is_empty() {
            return Ok(Turn::Idle);
        }
        match self.write.write(chunk).map_err(LinkError::Io)? {
            0 => return Err(LinkError::WriteZero),
            len => self.sender.wrote(len),
        }
        if self.sender.chunk(now).is_empty() {
            self.write.flush().map_err(LinkError::Io)?;
        }
        Ok(Turn::Worked)
    }

    /// Keeps a message, as [`SessionSender::push`].
    ///
    /// # Errors
    /// [`PushError`].
    pub fn push(&mut self, message: &[u8]) -> Result<u32, PushError> {
        self.sender.push(message)
    }

    /// Ends the series, and returns when everything is acknowledged. Waits for frames in a loop without a pause.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn finish(&mut self, now: impl Fn() -> u64) -> Result<(), LinkError<R::Error>> {
        self.sender.end();
        while !self.sender.is_settled() {
            self.turn(now())?;
        }
        Ok(())
    }

    /// The sender, for example to ask for a ping.
    pub fn sender(&mut self) -> &mut SessionSender<B, M> {
        self.sender
    }
}

/// What [`Link::turn`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Turn {
    /// It received this frame.
    Heard(Heard),
    /// It wrote, or read a part of a frame, or one that can be ignored.
    Worked,
    /// Nothing can be done now.
    Idle,
}

/// As [`Reader::receive`], with one read at most, for a transport that is ready. `None` if more bytes are needed.
fn receive_ready<R: Read>(
    reader: &mut Reader<R, Blocks, [u8; DOWN_MAX]>,
) -> Result<Option<Received<'_>>, ReceiveError<R::Error>> {
    let receiver = &mut reader.receiver;
    let mut is_read = false;
    let found = loop {
        let want = match receiver.step::<false>()? {
            None => continue,
            Some(Polled::NeedMore { .. }) if is_read => return Ok(None),
            Some(Polled::NeedMore { want }) => want,
            found => break found,
        };
        let spare = receiver.spare(want)?;
        let most = spare.len();
        match reader.io.read(spare).map_err(ReceiveError::Io)? {
            0 => break receiver.closed()?,
            // A faulty transport may claim more bytes than the buffer has.
            len => receiver.filled(len.min(most)),
        }
        is_read = true;
    };
    Ok(Some(receiver.message(found)))
}
