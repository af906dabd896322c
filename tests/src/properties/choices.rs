//! What a property is tried with, read from any bytes.

use framing_core::Limits;

/// The bytes that choices are read from; zeros where they are used up.
pub(super) struct Choices<'a>(pub(super) &'a [u8]);

impl Choices<'_> {
    pub(super) fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub(super) fn among<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[usize::from(self.next()) % choice.len()]
    }

    /// A limit: small ones mostly.
    pub(super) fn limit(&mut self) -> u32 {
        match self.next() {
            small @ ..=247 => u32::from(small),
            248..=249 => 300,
            250..=251 => 65535,
            252..=253 => Limits::SKIP_MAX,
            254..=255 => u32::MAX,
        }
    }

    /// Never nothing for ever.
    pub(super) fn sizes(&mut self) -> Sizes {
        let sizes = core::array::from_fn(|_| self.next());
        Sizes(if sizes == [0; 4] { [1; 4] } else { sizes }, 0)
    }

    /// A message of some runs, the bytes of each repeated; most often of the one length that `fixed` has.
    pub(super) fn message(&mut self, spec: &str) -> Vec<u8> {
        let mut message = vec![];
        for _ in 0..self.next() % 4 {
            let how = self.next();
            let (run, rest) = self.0.split_at(usize::from(how % 16).min(self.0.len()));
            self.0 = rest;
            let times = if run.len() == 1 {
                1 + usize::from(self.next())
            } else {
                1 + usize::from(how / 16)
            };
            message.extend(run.repeat(times));
        }
        match spec.split_once(':') {
            Some(("fixed", len)) if self.next() >= 64 => {
                message.resize(len.parse().expect(spec), 1);
            }
            _ => {}
        }
        message
    }
}

/// How many bytes go at a time, in turns; 0 is said too, and a very large number for 255.
pub(super) struct Sizes(pub(super) [u8; 4], usize);

impl Sizes {
    pub(super) fn next(&mut self) -> usize {
        let size = self.0[self.1 % self.0.len()];
        self.1 += 1;
        if size == u8::MAX {
            usize::MAX
        } else {
            usize::from(size)
        }
    }
}
