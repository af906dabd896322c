//! One connection of an acknowledged session. Start with [`Link`].

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

use embedded_io_async::{ErrorType, Read, Write};

use super::Reader;
use crate::framings::Blocks;
use crate::received::Received;
use crate::session::link::hear;
use crate::session::wire::{DOWN_MAX, HELLO_WIRE_MAX};
use crate::session::{Device, Heard, LinkError, Mode, PushError, SessionSender};

/// One connection of a [`SessionSender`]: writes messages and receives acknowledgements at the same time, over the two
/// halves of a transport.
///
/// `now` of each call is the device's clock in µs, or 0. There are no timeouts here. Close the connection if no WELCOME
/// comes within 10 s, or no frame within three times the heartbeat of the WELCOME.
///
/// ```
/// use framing_core::asynch::Link;
/// use framing_core::embedded_io_async::{ErrorType, Read, Write};
/// use framing_core::session::{Device, Full, LinkError, SessionSender};
///
/// /// Sends everything that `sender` holds over one connection.
/// async fn deliver<R, W>(
///     sender: &mut SessionSender<[u8; 4096]>,
///     read: R,
///     write: W,
/// ) -> Result<(), LinkError<R::Error>>
/// where
///     R: Read,
///     W: Write + ErrorType<Error = R::Error>,
/// {
///     let device = Device::new("boiler-7").expect("a device id");
///     let mut link = Link::open(sender, read, write, &device, 0).await?;
///     link.finish(|| 0).await
/// }
/// ```
#[derive(Debug)]
pub struct Link<'s, B, M, R, W> {
    sender: &'s mut SessionSender<B, M>,
    reader: Reader<R, Blocks, [u8; DOWN_MAX]>,
    write: W,
    /// Bytes were written since the last flush.
    is_unflushed: bool,
}

impl<'s, B, M, R, W> Link<'s, B, M, R, W>
where
    B: AsRef<[u8]> + AsMut<[u8]>,
    M: Mode,
    R: Read,
    W: Write + ErrorType<Error = R::Error>,
{
    /// Begins a connection: writes the HELLO. [`drive`](Self::drive) then returns the WELCOME.
    ///
    /// # Errors
    /// [`LinkError::Io`] or [`LinkError::WriteZero`].
    ///
    /// # Cancel-safety
    /// Close the transport if the future is dropped: a part of the HELLO may be written.
    pub async fn open(
        sender: &'s mut SessionSender<B, M>,
        read: R,
        mut write: W,
        device: &Device<'_>,
        now: u64,
    ) -> Result<Self, LinkError<R::Error>> {
        let mut hello = [0; HELLO_WIRE_MAX];
        let mut rest = sender.hello(device, now, &mut hello);
        while !rest.is_empty() {
            match write.write(rest).await.map_err(LinkError::Io)? {
                0 => return Err(LinkError::WriteZero),
                len => rest = rest.get(len..).unwrap_or_default(),
            }
        }
        Ok(Self {
            sender,
            reader: Reader::new(read, Blocks, [0; DOWN_MAX]),
            write,
            is_unflushed: true,
        })
    }

    /// Writes messages until a frame is received. Returns that frame.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over.
    ///
    /// # Cancel-safety
    /// Cancel-safe, if `read` and `write` of the transport are: that of `embassy-net` and Tokio are.
    pub fn drive(
        &mut self,
        now: impl Fn() -> u64,
    ) -> impl Future<Output = Result<Heard, LinkError<R::Error>>> {
        self.drive_with(now, |_| ())
    }

    /// As [`drive`](Self::drive), and passes each received frame to `frame` before the sender takes it: for the host's
    /// [time](crate::session::wire::time_ns).
    ///
    /// # Errors
    /// As [`drive`](Self::drive).
    ///
    /// # Cancel-safety
    /// As [`drive`](Self::drive).
    pub async fn drive_with(
        &mut self,
        now: impl Fn() -> u64,
        mut frame: impl FnMut(&[u8]),
    ) -> Result<Heard, LinkError<R::Error>> {
        loop {
            let chunk = self.sender.chunk(now());
            let (is_idle, is_unflushed) = (chunk.is_empty(), self.is_unflushed);
            let write = &mut self.write;
            let sent = async {
                match (is_idle, is_unflushed) {
                    (false, _) => write.write(chunk).await,
                    (true, true) => write.flush().await.map(|()| 0),
                    (true, false) => core::future::pending().await,
                }
            };
            let done = {
                let (mut received, mut sent) = (pin!(self.reader.receive()), pin!(sent));
                poll_fn(|context| match received.as_mut().poll(context) {
                    Poll::Ready(received) => Poll::Ready(Done::Received(received)),
                    Poll::Pending => sent.as_mut().poll(context).map(Done::Sent),
                })
                .await
            };
            match done {
                Done::Received(received) => {
                    if let Ok(Received::Message(bytes)) = received {
                        frame(bytes);
                    }
                    if let Some(heard) = hear(self.sender, received)? {
                        return Ok(heard);
                    }
                }
                Done::Sent(Err(error)) => return Err(LinkError::Io(error)),
                Done::Sent(Ok(0)) if !is_idle => return Err(LinkError::WriteZero),
                Done::Sent(Ok(len)) => {
                    self.is_unflushed = !is_idle;
                    self.sender.wrote(len);
                }
            }
        }
    }

    /// Keeps a message, as [`SessionSender::push`].
    ///
    /// # Errors
    /// [`PushError`].
    pub fn push(&mut self, message: &[u8]) -> Result<u32, PushError> {
        self.sender.push(message)
    }

    /// Ends the series, and returns when everything is acknowledged.
    ///
    /// # Errors
    /// As [`drive`](Self::drive).
    ///
    /// # Cancel-safety
    /// As [`drive`](Self::drive).
    pub async fn finish(&mut self, now: impl Fn() -> u64) -> Result<(), LinkError<R::Error>> {
        self.sender.end();
        while !self.sender.is_settled() {
            self.drive(&now).await?;
        }
        Ok(())
    }

    /// The sender, for example to ask for a ping.
    pub fn sender(&mut self) -> &mut SessionSender<B, M> {
        self.sender
    }
}

/// What happened first.
enum Done<T, U> {
    Received(T),
    Sent(U),
}
