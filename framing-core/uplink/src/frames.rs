//! The frames of a network driver, counted: [`Counted`]. They also show whether a peer accepts data.

use core::cell::Cell;
use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::blocking_mutex::CriticalSectionMutex;
use embassy_time::{Duration, Instant};

/// Counters of received and sent frames of a driver.
#[derive(Debug)]
pub struct Frames {
    received: CriticalSectionMutex<Cell<u32>>,
    sent: CriticalSectionMutex<Cell<u32>>,
    /// When a TCP segment with a window of zero arrived last.
    zero_window: CriticalSectionMutex<Cell<Option<Instant>>>,
}

impl Frames {
    /// Starts at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            received: CriticalSectionMutex::new(Cell::new(0)),
            sent: CriticalSectionMutex::new(Cell::new(0)),
            zero_window: CriticalSectionMutex::new(Cell::new(None)),
        }
    }

    /// Frames received.
    pub fn received(&self) -> u32 {
        self.received.lock(Cell::get)
    }

    /// Frames sent.
    pub fn sent(&self) -> u32 {
        self.sent.lock(Cell::get)
    }

    /// Whether a peer reported within this time that it accepts no data. Covers all connections,
    /// since they usually lead to the same daemon.
    pub(crate) fn had_zero_window(&self, within: Duration) -> bool {
        let last = self.zero_window.lock(Cell::get);
        last.is_some_and(|at| at.elapsed() < within)
    }

    /// Counts a received frame, and looks at its window.
    fn receive(&self, frame: &[u8]) {
        count(&self.received);
        if has_zero_window(frame) {
            let now = Some(Instant::now());
            self.zero_window.lock(|at| at.set(now));
        }
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

/// A driver that counts its frames.
#[derive(Debug)]
pub struct Counted<'a, D> {
    driver: D,
    frames: &'a Frames,
}

impl<'a, D: Driver> Counted<'a, D> {
    /// Counts the frames of this driver.
    pub const fn new(driver: D, frames: &'a Frames) -> Self {
        Self { driver, frames }
    }
}

impl<D: Driver> Driver for Counted<'_, D> {
    type RxToken<'t>
        = CountedReceive<'t, D::RxToken<'t>>
    where
        Self: 't;
    type TxToken<'t>
        = CountedSend<'t, D::TxToken<'t>>
    where
        Self: 't;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let frames = self.frames;
        let (receive, send) = self.driver.receive(cx)?;
        Some((CountedReceive(receive, frames), CountedSend(send, frames)))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        let frames = self.frames;
        Some(CountedSend(self.driver.transmit(cx)?, frames))
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        self.driver.link_state(cx)
    }

    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.driver.hardware_address()
    }
}

/// A received frame, counted when it is used.
#[derive(Debug)]
pub struct CountedReceive<'a, T>(T, &'a Frames);

impl<T: RxToken> RxToken for CountedReceive<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        self.0.consume(|frame| {
            self.1.receive(frame);
            f(frame)
        })
    }
}

/// Space for a frame to send, counted when it is used.
#[derive(Debug)]
pub struct CountedSend<'a, T>(T, &'a Frames);

impl<T: TxToken> TxToken for CountedSend<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        count(&self.1.sent);
        self.0.consume(len, f)
    }
}

fn count(counter: &CriticalSectionMutex<Cell<u32>>) {
    counter.lock(|counter| counter.set(counter.get().wrapping_add(1)));
}

/// Whether an Ethernet frame is a TCP segment over IPv4 whose window is zero. A reset has no window.
fn has_zero_window(frame: &[u8]) -> bool {
    const ETHERNET_LEN: usize = 14;
    const RESET: u8 = 1 << 2;

    let Some((ethernet, packet)) = frame.split_at_checked(ETHERNET_LEN) else {
        return false;
    };
    let header_len = packet
        .first()
        .map_or(0, |first| usize::from(first & 0xf) * 4);
    let is_tcp = ethernet.ends_with(&[0x08, 0x00]) && packet.get(9) == Some(&6);
    let segment = packet.get(header_len..).filter(|_| is_tcp);
    segment.is_some_and(|segment| {
        segment.get(13).is_some_and(|flags| flags & RESET == 0)
            && segment.get(14..16) == Some(&[0, 0])
    })
}
