//! Decodes and encodes a case with the framings of `framing-core`.

use std::hint::black_box;

use framing_core::{Decode, Framing, Limits, Sender, Step, encode};

use crate::cases::{Call, Case, PIECE_LEN};

const LIMITS: Limits = Limits {
    block_max: 1 << 20,
    skip_max: 1 << 24,
};

/// Decodes a whole window; `window` is a copy of the wire, since `cobs` unescapes in place.
#[derive(Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) window: &'a mut [u8],
}

impl Call<u64> for Whole<'_> {
    #[inline(always)]
    fn call(self, framing: impl Framing + Copy) -> u64 {
        let mut decoder = framing.decoder();
        scan(&mut decoder, self.window).1
    }
}

/// Decodes data that arrives in pieces, each appended to the rest of the previous ones, as the daemon does.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    pub(crate) wire: &'a [u8],
    pub(crate) window: &'a mut Vec<u8>,
}

impl Call<u64> for Pieces<'_> {
    #[inline(always)]
    fn call(self, framing: impl Framing + Copy) -> u64 {
        let mut decoder = framing.decoder();
        self.window.clear();
        let mut found = 0;
        for piece in self.wire.chunks(PIECE_LEN) {
            self.window.extend_from_slice(piece);
            let (used, blocks) = scan(&mut decoder, self.window);
            found += blocks;
            let left = self.window.len() - used;
            self.window.copy_within(used.., 0);
            self.window.truncate(left);
        }
        found
    }
}

/// Encodes into a reused buffer, one call for each message.
#[derive(Debug)]
pub(crate) struct Encoded<'a> {
    pub(crate) case: &'a Case,
    pub(crate) out: &'a mut [u8],
}

impl Call<u64> for Encoded<'_> {
    #[inline(always)]
    fn call(self, framing: impl Framing + Copy) -> u64 {
        let mut encoder = framing.encoder();
        let (mut at, mut count) = (0, 0);
        for _ in 0..self.case.count {
            let payload = &black_box(&self.case.payload)[..];
            let Some(out) = self.out.get_mut(at..) else {
                return count;
            };
            let Ok(len) = encode(&mut encoder, payload, out) else {
                return count;
            };
            at += len;
            count += 1;
        }
        black_box(&self.out);
        count
    }
}

/// Encodes as the writers of a transport do: chunk by chunk, into a reused buffer.
#[derive(Debug)]
pub(crate) struct Sent<'a> {
    pub(crate) case: &'a Case,
    pub(crate) out: &'a mut Vec<u8>,
}

impl Call<u64> for Sent<'_> {
    #[inline(always)]
    fn call(self, framing: impl Framing + Copy) -> u64 {
        let mut sender = Sender::new(framing);
        self.out.clear();
        for _ in 0..self.case.count {
            let payload = &black_box(&self.case.payload)[..];
            if sender.begin_whole(payload).is_err() {
                return 0;
            }
            loop {
                let chunk = sender.chunk(payload);
                if chunk.is_empty() {
                    break;
                }
                self.out.extend_from_slice(chunk);
                let len = chunk.len();
                sender.advance(len);
            }
        }
        black_box(self.out.len());
        self.case.count as u64
    }
}

#[inline(always)]
fn scan(decoder: &mut impl Decode, window: &mut [u8]) -> (usize, u64) {
    let mut blocks = 0;
    let scanned = decoder.scan_all::<false>(window, &LIMITS, |at, step| {
        if let Step::Payload { start, end, .. } = step {
            // The position of the payload, which the daemon keeps.
            black_box((at + start, at + end));
            blocks += 1;
        }
        true
    });
    (scanned.used, blocks)
}
