//! The blocking sender: it sleeps only without a sample, and continues on the next transport.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use embedded_io::{ErrorKind, ErrorType};
use firmware_example::{BLOCK_MAX, tail};
use framing_core::{Blocks, SendError};
use framing_uplink::{Full, Ring, RingSource, blocking};

use crate::support::{Ending, blocks, decode, push};

/// A transport that takes this many bytes, and then fails.
struct Wire {
    bytes: Vec<u8>,
    limit: usize,
}

impl ErrorType for Wire {
    type Error = ErrorKind;
}

impl embedded_io::Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let len = bytes.len().min(self.limit - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..len]);
        if len == 0 {
            Err(ErrorKind::ConnectionReset)
        } else {
            Ok(len)
        }
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

#[test]
fn the_blocking_sender_never_sleeps_with_a_sample_queued() {
    // Room for all, since the thread may add several at once.
    let ring = Ring::<3584>::new(Full::DropOldest);
    let mut samples = RingSource::<_, BLOCK_MAX>::new(&ring).with_tail(tail);
    let (sleeps, sleeping) = mpsc::channel();
    thread::scope(|scope| {
        let ring = &ring;
        // Simulates an interrupt that comes between the check of the queue and the sleep, and then the last one.
        scope.spawn(move || {
            for number in 0..20 {
                if sleeping.recv().is_err() {
                    return;
                }
                push(ring, number);
            }
            ring.close();
        });
        let sleep = || {
            assert!(ring.is_empty(), "it sleeps with a sample queued");
            sleeps.send(()).expect("the queue is not closed");
            thread::sleep(Duration::from_millis(10));
            assert!(ring.is_empty(), "a sample was added during the sleep");
        };
        let sent = blocking::stream(Vec::new(), Blocks, &mut samples, sleep);
        assert_eq!(sent, Ok(20));
    });
}

#[test]
fn the_blocking_sender_continues_on_the_next_transport() {
    let ring = Ring::<896>::new(Full::DropOldest);
    let mut samples = RingSource::<_, BLOCK_MAX>::new(&ring).with_tail(tail);
    let mut number = 0;
    // Simulates an interrupt that adds samples while the sender sleeps.
    let mut idle = || {
        push(&ring, number);
        number += 1;
        if number == 5 {
            ring.close();
        }
    };
    let mut first = Wire {
        bytes: Vec::new(),
        limit: 200,
    };
    let mut second = Wire {
        bytes: Vec::new(),
        limit: usize::MAX,
    };
    let failed = blocking::stream(&mut first, Blocks, &mut samples, &mut idle);
    assert_eq!(failed, Err(SendError::Io(ErrorKind::ConnectionReset)));
    let of_first = samples.taken();
    let sent = blocking::stream(&mut second, Blocks, &mut samples, &mut idle).unwrap();
    let (mut all, cut) = blocks(&first.bytes);
    let (rest, ending) = blocks(&second.bytes);
    assert_eq!(
        (cut, ending, sent as usize),
        (Ending::Truncated, Ending::Mark, rest.len())
    );
    assert_eq!(of_first as usize, all.len());
    assert_eq!((samples.taken(), samples.left(), ring.lost()), (5, 0, 0));
    all.extend(rest);
    let numbers: Vec<_> = all.iter().map(|block| decode(block)["n"]).collect();
    assert_eq!(numbers, [0.0, 1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn wherever_the_transport_fails_the_counts_agree_with_what_it_took() {
    const COUNT: usize = 3;
    // Bytes of the whole series; the last four are the end mark.
    let mut whole_len = usize::MAX;
    let mut limit = 0;
    while limit <= whole_len {
        let ring = Ring::<896>::new(Full::DropOldest);
        for number in 0..COUNT as u32 {
            push(&ring, number);
        }
        ring.close();
        let mut samples = RingSource::<_, BLOCK_MAX>::new(&ring).with_tail(tail);
        let mut wire = Wire {
            bytes: Vec::new(),
            limit,
        };
        let result = blocking::stream(&mut wire, Blocks, &mut samples, || unreachable!("queued"));
        let (taken, ending) = blocks(&wire.bytes);
        assert_eq!(samples.taken() as usize, taken.len(), "{limit}");
        assert_eq!(samples.left() as usize, COUNT - taken.len(), "{limit}");
        assert_eq!(ring.lost(), 0, "{limit}");
        // Only the complete end mark ends the series.
        if ending == Ending::Mark {
            assert_eq!(result, Ok(COUNT as u32), "{limit}");
            whole_len = wire.bytes.len();
        } else {
            let reset = SendError::Io(ErrorKind::ConnectionReset);
            assert_eq!(result, Err(reset), "{limit}");
        }
        limit += 1;
    }
    assert!(whole_len > 3 * 40, "{whole_len}");
}
