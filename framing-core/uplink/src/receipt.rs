//! The daemon's receipt for a series, `{"blocks":5,"bytes":280}`: the only acknowledgement in the protocol.

/// What a connection carried: counted here, or read from the daemon's receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Complete blocks.
    pub(crate) blocks: u64,
    /// Total length of these blocks, without their headers.
    pub(crate) bytes: u64,
}

impl Tally {
    /// Counts a block.
    pub(crate) const fn add(&mut self, block: &[u8]) {
        self.blocks += 1;
        self.bytes += block.len() as u64;
    }

    /// Parses a receipt, in the exact form that the daemon writes.
    pub(crate) fn parse(receipt: &[u8]) -> Option<Self> {
        let (blocks, rest) = number(receipt.strip_prefix(b"{\"blocks\":")?)?;
        let (bytes, rest) = number(rest.strip_prefix(b",\"bytes\":")?)?;
        (rest == b"}").then_some(Self { blocks, bytes })
    }
}

/// Splits off the number at the start. `str::parse` would take 200 more bytes of flash.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(len).filter(|_| len != 0)?;
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    Some((number, rest))
}
