//! The blocking sender: it sleeps only without a sample, and continues on the next transport.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use embedded_io::{ErrorKind, ErrorType};
use firmware_example::{Queue, Sample, Samples, blocking};
use framing_core::SendError;

use crate::support::{Ending, blocks, decode};

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
    let queue = Queue::<32>::new();
    let mut samples = Samples::new(&queue);
    let (sleeps, sleeping) = mpsc::channel();
    thread::scope(|scope| {
        let queue = &queue;
        // Simulates an interrupt that comes between the check of the queue and the sleep, and then the last one.
        scope.spawn(move || {
            for number in 0..20 {
                if sleeping.recv().is_err() {
                    return;
                }
                queue.push(Sample {
                    number,
                    ..Sample::default()
                });
            }
            queue.close();
        });
        let sleep = || {
            assert!(queue.is_empty(), "it sleeps with a sample queued");
            sleeps.send(()).expect("the queue is not closed");
            thread::sleep(Duration::from_millis(10));
            assert!(queue.is_empty(), "a sample was added during the sleep");
        };
        let sent = blocking::stream(Vec::new(), &mut samples, sleep);
        assert_eq!(sent, Ok(20));
    });
}

#[test]
fn the_blocking_sender_continues_on_the_next_transport() {
    let queue = Queue::<8>::new();
    let mut samples = Samples::new(&queue);
    let mut number = 0;
    // Simulates an interrupt that adds samples while the sender sleeps.
    let mut idle = || {
        queue.push(Sample {
            number,
            ..Sample::default()
        });
        number += 1;
        if number == 5 {
            queue.close();
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
    let failed = blocking::stream(&mut first, &mut samples, &mut idle);
    assert_eq!(failed, Err(SendError::Io(ErrorKind::ConnectionReset)));
    let of_first = samples.taken();
    let sent = blocking::stream(&mut second, &mut samples, &mut idle).unwrap();
    let (mut all, cut) = blocks(&first.bytes);
    let (rest, ending) = blocks(&second.bytes);
    assert_eq!(
        (cut, ending, sent as usize),
        (Ending::Truncated, Ending::Mark, rest.len())
    );
    assert_eq!(of_first as usize, all.len());
    assert_eq!((samples.taken(), samples.left(), queue.lost()), (5, 0, 0));
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
        let queue = Queue::<8>::new();
        for number in 0..COUNT as u32 {
            queue.push(Sample {
                number,
                ..Sample::default()
            });
        }
        queue.close();
        let mut samples = Samples::new(&queue);
        let mut wire = Wire {
            bytes: Vec::new(),
            limit,
        };
        let result = blocking::stream(&mut wire, &mut samples, || unreachable!("queued"));
        let (taken, ending) = blocks(&wire.bytes);
        assert_eq!(samples.taken() as usize, taken.len(), "{limit}");
        assert_eq!(samples.left() as usize, COUNT - taken.len(), "{limit}");
        assert_eq!(queue.lost(), 0, "{limit}");
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
