//! A series over a serial port on USB (CDC-ACM). Start with [`UsbPort`]; the feature `embassy-usb` has its parts.
//!
//! A connection lasts while a program of the host has the port open, which the signal DTR shows. Each message has a checksum
//! (`cobs-crc32`), because a host that reads too slowly loses bytes. The daemon listens on `serial:/dev/ttyACM0,framing=cobs-crc32`.

use embassy_futures::select::{Either, select};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use framing_core::{CobsCrc32, Framing};

use crate::connect::Connect;
use crate::serial::{Boundary, write_all};

/// The endpoint that sends packets.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait PacketSender {
    /// Size of the largest packet, in bytes.
    fn packet_max(&self) -> usize;

    /// Waits until the host has configured the device.
    async fn wait_enabled(&mut self);

    /// Sends a packet, which may be empty.
    ///
    /// # Errors
    /// If the device is not configured any more.
    async fn send(&mut self, packet: &[u8]) -> Result<(), ErrorKind>;
}

/// The endpoint that receives packets.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait PacketReceiver {
    /// Receives a packet; returns its length.
    ///
    /// # Errors
    /// If the device is not configured any more.
    async fn receive(&mut self, packet: &mut [u8]) -> Result<usize, ErrorKind>;
}

/// The control signals of the host.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait ControlSignals {
    /// Whether a program has the port open (DTR).
    fn is_open(&self) -> bool;

    /// Waits until a signal changes, or has changed since the last call.
    async fn changed(&self);
}

/// A port as a transport of [`run_series`](crate::run_series).
///
/// `PACKET` is at least the size of a packet from the host, in bytes: 64 on a full-speed bus, 512 on a high-speed one. Bytes
/// that arrive have no meaning, and are skipped.
///
/// A message that a closed port cuts is made unreadable, and sent again on the next connection. A message that the endpoint
/// took is in doubt. [`SeriesReport::ended`](crate::SeriesReport::ended) means that the endpoint took all packets.
#[derive(Debug)]
pub struct UsbPort<S, R, C, const PACKET: usize = 64> {
    sender: S,
    receiver: R,
    control: C,
    boundary: Boundary,
    /// Whether an empty packet must follow: the last one was full, and ended a message.
    owes_empty: bool,
    packet: [u8; PACKET],
}

impl<S: PacketSender, R: PacketReceiver, C: ControlSignals, const PACKET: usize>
    UsbPort<S, R, C, PACKET>
{
    /// A port of these parts.
    #[must_use]
    pub const fn new(sender: S, receiver: R, control: C) -> Self {
        Self {
            sender,
            receiver,
            control,
            boundary: Boundary::new(),
            owes_empty: false,
            packet: [0; PACKET],
        }
    }

    /// Sends a packet, unless the program closes the port.
    async fn send(&mut self, packet: &[u8]) -> Result<(), ErrorKind> {
        match select(closed(&self.control), self.sender.send(packet)).await {
            Either::First(()) => Err(ErrorKind::NotConnected),
            Either::Second(sent) => sent,
        }
    }

    /// Sends the empty packet that ends a transfer of full packets: without it, the host waits for the rest.
    async fn end_transfer(&mut self) -> Result<(), ErrorKind> {
        if self.owes_empty {
            self.send(&[]).await?;
            self.owes_empty = false;
        }
        Ok(())
    }
}

impl<S, R, C, const PACKET: usize> ErrorType for UsbPort<S, R, C, PACKET> {
    type Error = ErrorKind;
}

impl<S, R: PacketReceiver, C: ControlSignals, const PACKET: usize> Read
    for UsbPort<S, R, C, PACKET>
{
    /// Skips what arrives, and returns 0 when the program closes the port.
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, ErrorKind> {
        loop {
            let receiving = self.receiver.receive(&mut self.packet);
            match select(closed(&self.control), receiving).await {
                Either::First(()) => return Ok(0),
                Either::Second(received) => received?,
            };
        }
    }
}

impl<S: PacketSender, R: PacketReceiver, C: ControlSignals, const PACKET: usize> Write
    for UsbPort<S, R, C, PACKET>
{
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.end_transfer().await?;
        let max = self.sender.packet_max();
        let packet = bytes.get(..max).unwrap_or(bytes);
        self.send(packet).await?;
        self.boundary.took(packet, packet.len());
        // In `cobs`, only a delimiter is zero.
        self.owes_empty = packet.len() == max && packet.last() == Some(&0);
        // The packet is taken: a failure is that of the next call.
        let _ = self.end_transfer().await;
        Ok(packet.len())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.end_transfer().await
    }
}

impl<S: PacketSender, R: PacketReceiver, C: ControlSignals, const PACKET: usize> Connect
    for UsbPort<S, R, C, PACKET>
{
    type Connection<'a>
        = &'a mut Self
    where
        Self: 'a;

    fn framing() -> impl Framing {
        CobsCrc32
    }

    /// Waits until a program opens the port, then writes a delimiter.
    async fn connect(&mut self) -> Result<&mut Self, ErrorKind> {
        self.sender.wait_enabled().await;
        while !self.control.is_open() {
            self.control.changed().await;
            self.sender.wait_enabled().await;
        }
        self.owes_empty = false;
        let start = self.boundary.start();
        write_all(self, start).await?;
        Ok(self)
    }

    async fn close<'a>(connection: &mut &'a mut Self) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        connection.flush().await
    }
}

/// Waits until no program has the port open.
async fn closed(control: &impl ControlSignals) {
    while control.is_open() {
        control.changed().await;
    }
}

#[cfg(feature = "embassy-usb")]
mod embassy {
    use embassy_usb::class::cdc_acm::{CdcAcmClass, ControlChanged, Receiver, Sender};
    use embassy_usb::driver::{Driver, EndpointError};
    use embedded_io_async::ErrorKind;

    use super::{ControlSignals, PacketReceiver, PacketSender, UsbPort};

    impl<'d, D: Driver<'d>, const PACKET: usize>
        UsbPort<Sender<'d, D>, Receiver<'d, D>, ControlChanged<'d>, PACKET>
    {
        /// A port of embassy-usb.
        #[must_use]
        pub fn of_class(class: CdcAcmClass<'d, D>) -> Self {
            let (sender, receiver, control) = class.split_with_control();
            Self::new(sender, receiver, control)
        }
    }

    impl<'d, D: Driver<'d>> PacketSender for Sender<'d, D> {
        fn packet_max(&self) -> usize {
            self.max_packet_size().into()
        }

        async fn wait_enabled(&mut self) {
            self.wait_connection().await;
        }

        async fn send(&mut self, packet: &[u8]) -> Result<(), ErrorKind> {
            self.write_packet(packet).await.map_err(kind)
        }
    }

    impl<'d, D: Driver<'d>> PacketReceiver for Receiver<'d, D> {
        async fn receive(&mut self, packet: &mut [u8]) -> Result<usize, ErrorKind> {
            self.read_packet(packet).await.map_err(kind)
        }
    }

    impl ControlSignals for ControlChanged<'_> {
        fn is_open(&self) -> bool {
            self.dtr()
        }

        async fn changed(&self) {
            self.control_changed().await;
        }
    }

    fn kind(error: EndpointError) -> ErrorKind {
        match error {
            EndpointError::BufferOverflow => ErrorKind::OutOfMemory,
            EndpointError::Disabled => ErrorKind::NotConnected,
        }
    }
}
