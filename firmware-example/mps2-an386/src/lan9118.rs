//! A driver for the LAN9118, an Ethernet controller with FIFOs and a 32-bit bus (SMSC's data sheet, rev. 1.5).
//!
//! Interrupts wake the network stack. The processor copies the frames, one at a time in each direction.

use core::fmt;
use core::pin::pin;
use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;
use embassy_time::{Duration, Timer};

/// Number of the controller's interrupt.
pub const INTERRUPT: i16 = 13;

/// Base address of the registers. They accept only 32-bit accesses.
const BASE: usize = 0x4020_0000;

// Registers, as offsets from the base.

/// Read: the next word of the received frame whose status was read last.
const RX_DATA: usize = 0x00;
/// Write: two command words, then the frame.
const TX_DATA: usize = 0x20;
/// Read: pops the status of the next received frame. Bits 29..16: its length, with 4 bytes of CRC; 15: error.
const RX_STATUS: usize = 0x40;
/// Read: pops the status of a frame that was sent.
const TX_STATUS: usize = 0x48;
/// Configuration of the interrupt line. Bit 8: enabled; 4: active high; 0: push-pull.
const IRQ_CFG: usize = 0x54;
/// Interrupt status; writing ones clears the bits.
const INT_STS: usize = 0x58;
/// Interrupt enable: which bits drive the line.
const INT_EN: usize = 0x5c;
/// Reads as [`BYTE_ORDER`] when the controller is awake and the bus is configured correctly.
const BYTE_TEST: usize = 0x64;
/// Levels of the FIFO interrupts. Bits 31..24: TX data, in 64 bytes; 7..0: RX status, in frames.
const FIFO_INT: usize = 0x68;
/// Bit 1: transmitter on.
const TX_CFG: usize = 0x70;
/// Bit 20: must be one; 19..16: size of the TX FIFO in KiB; 0: soft reset, reads as 0 when done.
const HW_CFG: usize = 0x74;
/// Bits 23..16: number of received frames.
const RX_FIFO_INF: usize = 0x7c;
/// Bits 23..16: number of status words of sent frames; 15..0: free bytes in the TX data FIFO.
const TX_FIFO_INF: usize = 0x80;
/// Access to the registers of the MAC. Bit 31: start, reads as 0 when done; 30: read; 7..0: register.
const MAC_CSR_CMD: usize = 0xa4;
/// The value to write, or the value that was read.
const MAC_CSR_DATA: usize = 0xa8;

// Registers of the MAC, accessed through MAC_CSR_CMD.

/// Bit 20: full duplex; 3: transmitter on; 2: receiver on.
const MAC_CR: u32 = 1;
/// Last two bytes of the hardware address, loaded from the EEPROM.
const MAC_ADDRH: u32 = 2;
/// First four bytes.
const MAC_ADDRL: u32 = 3;
/// Access to the registers of the PHY. Bits 15..11: PHY, 1 is the internal one; 10..6: register; 1: write; 0: busy.
const MII_ACC: u32 = 6;
/// The value to write, or the value that was read.
const MII_DATA: u32 = 7;

// Registers of the PHY, accessed through MII_ACC.

/// Bits 12: autonegotiation; 9: restart it.
const PHY_CONTROL: u32 = 0;
/// Bit 2: link up.
const PHY_STATUS: u32 = 1;

const BYTE_ORDER: u32 = 0x8765_4321;
/// In INT_STS and INT_EN: more frames were received than the RX level of FIFO_INT.
const INT_RECEIVED: u32 = 1 << 3;
/// In INT_STS and INT_EN: more space is free than the TX level of FIFO_INT.
const INT_ROOM: u32 = 1 << 9;

/// Length of the longest frame, in bytes: without CRC, and below with CRC in whole words.
const FRAME_MAX: usize = 1514;
const BUFFER_LEN: usize = 1520;
/// Longest time between two looks at the link.
const LINK_POLL: Duration = Duration::from_millis(500);
/// Number of polls of a bit before the controller counts as broken.
const POLLS_MAX: u32 = 1_000_000;

/// Wakes the network stack on an interrupt.
static WAITING: AtomicWaker = AtomicWaker::new();

/// Handles [`INTERRUPT`]: wakes the stack, which enables the interrupts again after it has checked the controller.
pub fn on_interrupt() {
    write(INT_EN, 0);
    WAITING.wake();
}

/// One frame buffer for each direction. Keep it in a static: a small stack has no room for it.
pub struct Buffers {
    received: [u8; BUFFER_LEN],
    to_send: [u8; BUFFER_LEN],
}

impl Buffers {
    /// Creates empty buffers.
    pub const fn new() -> Self {
        Self {
            received: [0; BUFFER_LEN],
            to_send: [0; BUFFER_LEN],
        }
    }
}

/// The controller.
pub struct Lan9118 {
    address: [u8; 6],
    buffers: &'static mut Buffers,
}

/// Why the controller cannot be used.
pub enum StartError {
    /// Another value was read at its address.
    NotThere { found: u32 },
    /// A reset, or an access to the MAC or the PHY, does not complete.
    Stuck { register: usize },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere { found } => {
                write!(f, "no LAN9118: read {found:#010x}, not {BYTE_ORDER:#010x}")
            }
            Self::Stuck { register } => write!(f, "LAN9118: register {register:#x} stays busy"),
        }
    }
}

impl Lan9118 {
    /// Resets the controller and turns it on. Keep its interrupt masked until this returns: after a reset the line is
    /// active low, so the interrupt would fire continuously.
    pub fn start(buffers: &'static mut Buffers) -> Result<Self, StartError> {
        let found = read(BYTE_TEST);
        if found != BYTE_ORDER {
            return Err(StartError::NotThere { found });
        }
        write(HW_CFG, 1);
        until_zero(HW_CFG, 1)?;
        write(HW_CFG, 1 << 20 | 5 << 16);
        write(IRQ_CFG, 1 << 8 | 1 << 4 | 1);
        write(INT_EN, 0);
        write(INT_STS, u32::MAX);
        // Interrupts from the first frame on, and when the longest frame has room.
        write(FIFO_INT, (FRAME_MAX as u32).div_ceil(64) << 24);

        phy_write(PHY_CONTROL, 1 << 12 | 1 << 9)?;
        let low = mac_read(MAC_ADDRL)?.to_le_bytes();
        let high = mac_read(MAC_ADDRH)?.to_le_bytes();
        write(TX_CFG, 1 << 1);
        mac_write(MAC_CR, 1 << 20 | 1 << 3 | 1 << 2)?;
        Ok(Self {
            address: [low[0], low[1], low[2], low[3], high[0], high[1]],
            buffers,
        })
    }

    /// Takes the next good frame out of the FIFO; returns its length.
    fn take(&mut self) -> Option<usize> {
        while read(RX_FIFO_INF) >> 16 & 0xff != 0 {
            let status = read(RX_STATUS);
            let with_crc = (status >> 16 & 0x3fff) as usize;
            let words = with_crc.div_ceil(4);
            let mut room = self.buffers.received.chunks_exact_mut(4);
            // All words must be read, even those that do not fit.
            for _ in 0..words {
                let word = read(RX_DATA).to_le_bytes();
                if let Some(room) = room.next() {
                    room.copy_from_slice(&word);
                }
            }
            let len = with_crc.saturating_sub(4);
            if status & 1 << 15 == 0 && (1..=FRAME_MAX).contains(&len) {
                return Some(len);
            }
        }
        None
    }
}

impl Driver for Lan9118 {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Received<'_>, Room<'_>)> {
        if !has_room() {
            // A reply could not be sent, so the frame stays in the FIFO until there is room.
            wait(cx, INT_ROOM);
            return None;
        }
        let taken = self.take().or_else(|| {
            // Checked again after the interrupt is enabled, so that no frame is missed in between.
            wait(cx, INT_RECEIVED);
            self.take()
        });
        let (received, _) = self.buffers.received.split_at_mut(taken?);
        Some((Received(received), Room(&mut self.buffers.to_send)))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Room<'_>> {
        if !has_room() {
            wait(cx, INT_ROOM | INT_RECEIVED);
            return None;
        }
        Some(Room(&mut self.buffers.to_send))
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        // The stack looks at the link whenever it runs; the timer wakes it for that, so the PHY needs no interrupt.
        let _ = pin!(Timer::after(LINK_POLL)).poll(cx);
        match phy_read(PHY_STATUS) {
            Ok(status) if status & 1 << 2 != 0 => LinkState::Up,
            _ => LinkState::Down,
        }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_MAX;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

/// A received frame.
pub struct Received<'a>(&'a mut [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Space for a frame, in the buffer and in the FIFO.
pub struct Room<'a>(&'a mut [u8; BUFFER_LEN]);

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let len = len.min(FRAME_MAX);
        let result = f(&mut self.0[..len]);
        // The frame is a single buffer: the first (bit 13) and the last (bit 12).
        write(TX_DATA, 1 << 13 | 1 << 12 | len as u32);
        write(TX_DATA, len as u32);
        for word in self.0.chunks_exact(4).take(len.div_ceil(4)) {
            let word = word.try_into().unwrap_or_default();
            write(TX_DATA, u32::from_le_bytes(word));
        }
        // The status of sent frames is not used, but a full status FIFO would stop the transmitter.
        while read(TX_FIFO_INF) >> 16 & 0xff != 0 {
            read(TX_STATUS);
        }
        result
    }
}

/// Whether the longest frame fits the TX data FIFO, with its two command words.
fn has_room() -> bool {
    (read(TX_FIFO_INF) & 0xffff) as usize >= BUFFER_LEN + 8
}

/// Enables these interrupts, to wake the stack.
fn wait(cx: &mut Context<'_>, interrupts: u32) {
    WAITING.register(cx.waker());
    write(INT_STS, interrupts);
    write(INT_EN, interrupts);
}

fn phy_read(register: u32) -> Result<u32, StartError> {
    mac_write(MII_ACC, 1 << 11 | register << 6 | 1)?;
    phy_done()?;
    mac_read(MII_DATA)
}

fn phy_write(register: u32, value: u32) -> Result<(), StartError> {
    mac_write(MII_DATA, value)?;
    mac_write(MII_ACC, 1 << 11 | register << 6 | 1 << 1 | 1)?;
    phy_done()
}

/// Waits until the PHY has completed the access.
fn phy_done() -> Result<(), StartError> {
    for _ in 0..POLLS_MAX {
        if mac_read(MII_ACC)? & 1 == 0 {
            return Ok(());
        }
    }
    Err(StartError::Stuck {
        register: MII_ACC as usize,
    })
}

fn mac_read(register: u32) -> Result<u32, StartError> {
    write(MAC_CSR_CMD, 1 << 31 | 1 << 30 | register);
    until_zero(MAC_CSR_CMD, 1 << 31)?;
    Ok(read(MAC_CSR_DATA))
}

fn mac_write(register: u32, value: u32) -> Result<(), StartError> {
    write(MAC_CSR_DATA, value);
    write(MAC_CSR_CMD, 1 << 31 | register);
    until_zero(MAC_CSR_CMD, 1 << 31)
}

/// Waits until these bits of a register are zero.
fn until_zero(register: usize, bits: u32) -> Result<(), StartError> {
    for _ in 0..POLLS_MAX {
        if read(register) & bits == 0 {
            return Ok(());
        }
    }
    Err(StartError::Stuck { register })
}

fn read(register: usize) -> u32 {
    // SAFETY: called only with registers of the controller, which only this file uses.
    unsafe { ((BASE + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: called only with registers of the controller, which only this file uses.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) }
}
