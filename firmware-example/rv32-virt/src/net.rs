//! The network card: virtio over MMIO, as a driver of embassy-net. It is looked at each millisecond.

use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::{ConstStaticCell, StaticCell};
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// The first of the eight places for virtio devices. QEMU fills them from the last one on.
const DEVICES: usize = 0x1000_1000;
const DEVICE_LEN: usize = 0x1000;
/// Longest Ethernet frame, without its checksum, and longest header of virtio before it.
const FRAME_MAX: usize = 1514;
const BUFFER_LEN: usize = 12 + FRAME_MAX;

static WAKER: AtomicWaker = AtomicWaker::new();

type Card = VirtIONetRaw<Memory, MmioTransport<'static>, 4>;

/// The network card.
pub(crate) struct Virtio {
    card: &'static mut Card,
    /// The card has it, except within `receive`.
    buffer: &'static mut [u8; BUFFER_LEN],
}

/// Lets the stack look at the card.
pub(crate) fn wake() {
    WAKER.wake();
}

impl Virtio {
    /// Starts the card in the last place.
    pub(crate) fn start() -> Self {
        static CARD: StaticCell<Card> = StaticCell::new();
        static BUFFER: ConstStaticCell<[u8; BUFFER_LEN]> = ConstStaticCell::new([0; BUFFER_LEN]);

        let header =
            NonNull::new((DEVICES + 7 * DEVICE_LEN) as *mut VirtIOHeader).expect("not null");
        // SAFETY: registers of a virtio device, which nothing else uses.
        let transport = unsafe { MmioTransport::new(header, DEVICE_LEN) }.expect("a virtio device");
        let card = CARD.init(Card::new(transport).expect("a network card"));
        let mut this = Self {
            card,
            buffer: BUFFER.take(),
        };
        this.give_buffer();
        this
    }

    fn give_buffer(&mut self) {
        // SAFETY: not accessed until the card has filled it.
        unsafe { self.card.receive_begin(self.buffer) }.expect("the queue has room");
    }
}

impl Driver for Virtio {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Rx, Tx<'_>)> {
        WAKER.register(context.waker());
        let token = self.card.poll_receive()?;
        // SAFETY: the buffer that the card had, and has filled.
        let (header, len) =
            unsafe { self.card.receive_complete(token, self.buffer) }.expect("a frame");
        let mut frame = [0; FRAME_MAX];
        frame[..len].copy_from_slice(&self.buffer[header..header + len]);
        self.give_buffer();
        Some((Rx(frame, len), Tx(self.card)))
    }

    fn transmit(&mut self, _context: &mut Context<'_>) -> Option<Tx<'_>> {
        Some(Tx(self.card))
    }

    fn link_state(&mut self, _context: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_MAX;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.card.mac_address())
    }
}

/// A received frame, and its length.
pub(crate) struct Rx([u8; FRAME_MAX], usize);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(&mut self.0[..self.1])
    }
}

/// Room for a frame to send.
pub(crate) struct Tx<'a>(&'a mut Card);

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = [0; FRAME_MAX];
        let result = f(&mut frame[..len]);
        self.0.send(&frame[..len]).expect("the card takes frames");
        result
    }
}

/// Pages for the queues of the card.
const PAGES: usize = 8;

#[repr(C, align(4096))]
struct Pages(UnsafeCell<[[u8; PAGE_SIZE]; PAGES]>);

// SAFETY: each page is given out once.
unsafe impl Sync for Pages {}

static POOL: Pages = Pages(UnsafeCell::new([[0; PAGE_SIZE]; PAGES]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// Memory that the card reads and writes: all of it, at the same addresses.
struct Memory;

// SAFETY: pages are zeroed, aligned, given out once and never again; the card has the addresses of the core.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let first = USED.fetch_add(pages, Ordering::Relaxed);
        assert!(first + pages <= PAGES, "no page is left");
        // SAFETY: within the pool.
        let page =
            unsafe { NonNull::new_unchecked(POOL.0.get().cast::<u8>().add(first * PAGE_SIZE)) };
        (page.addr().get() as PhysAddr, page)
    }

    // SAFETY: it does nothing.
    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    // SAFETY: only for PCI, which this board does not use.
    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!()
    }

    // SAFETY: it only reads the address.
    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.addr().get() as PhysAddr
    }

    // SAFETY: it does nothing.
    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
