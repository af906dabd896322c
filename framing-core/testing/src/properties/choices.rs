//! The parameters of a property, read from arbitrary bytes.

use std::sync::LazyLock;

use framing_core::{AnyFraming, Limits};

use crate::drive::is_exact;
use crate::messages::specs;
use crate::reference::Format;

/// Every framing, with arguments where necessary.
pub static SPECS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let delimiters = ["00", "0d0a", "6161", "6162616261626162"];
    let specs = specs(&[1, 3, 20], &delimiters);
    specs.into_iter().map(|spec| &*spec.leak()).collect()
});

/// A framing and its reference, parsed only once for all inputs.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub spec: &'static str,
    /// The tested framing.
    pub framing: AnyFraming,
    /// The reference that it must agree with.
    pub format: Format,
    /// Whether the framing knows how many bytes it may read.
    pub is_exact: bool,
}

impl Known {
    /// Looks up the framing of this name.
    ///
    /// # Panics
    /// If the name is unknown.
    #[must_use]
    pub fn of(spec: &'static str) -> Self {
        let framing = spec.parse().expect(spec);
        Self {
            spec,
            framing,
            format: Format::of(spec),
            is_exact: is_exact(framing),
        }
    }
}

/// All of [`SPECS`].
pub(super) static KNOWN: LazyLock<Vec<Known>> =
    LazyLock::new(|| SPECS.iter().copied().map(Known::of).collect());

/// The bytes that parameters are read from; zeros after their end.
pub(super) struct Choices<'a>(pub(super) &'a [u8]);

impl Choices<'_> {
    pub(super) fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub(super) fn among<'a, T>(&mut self, choice: &'a [T]) -> &'a T {
        &choice[usize::from(self.next()) % choice.len()]
    }

    /// A limit, mostly a small one.
    pub(super) fn limit(&mut self) -> u32 {
        match self.next() {
            small @ ..=247 => u32::from(small),
            248..=249 => 300,
            250..=251 => 65535,
            252..=253 => Limits::SKIP_MAX,
            254..=255 => u32::MAX,
        }
    }

    /// Sizes that are not all zero.
    pub(super) fn sizes(&mut self) -> Sizes {
        let sizes = core::array::from_fn(|_| self.next());
        Sizes(if sizes == [0; 4] { [1; 4] } else { sizes }, 0)
    }

    /// A message of a few runs of repeated bytes; usually of the right length for `fixed`.
    pub(super) fn message(&mut self, format: &Format) -> Vec<u8> {
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
        if let Format::Fixed(len) = *format
            && self.next() >= 64
        {
            message.resize(len as usize, 1);
        }
        message
    }
}

/// Sizes of consecutive calls, used in turn. They include 0, and a very large number for 255.
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
