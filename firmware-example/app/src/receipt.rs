//! The daemon's receipt for a series, `{"blocks":5,"bytes":280}`: the only word about delivery in the protocol.

/// What a connection carried: as counted here, or as the daemon's receipt says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Whole blocks.
    pub(crate) blocks: u64,
    /// Bytes of them, without their headers.
    pub(crate) bytes: u64,
}

impl Tally {
    /// Counts a block.
    pub(crate) const fn add(&mut self, block: &[u8]) {
        self.blocks += 1;
        self.bytes += block.len() as u64;
    }

    /// Reads a receipt, exactly as the daemon writes it.
    pub(crate) fn parse(receipt: &[u8]) -> Option<Self> {
        let (blocks, rest) = number(receipt.strip_prefix(b"{\"blocks\":")?)?;
        let (bytes, rest) = number(rest.strip_prefix(b",\"bytes\":")?)?;
        (rest == b"}").then_some(Self { blocks, bytes })
    }
}

/// The number at the start, and what follows it. Not by `str::parse`, which takes 200 bytes more of flash.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(len).filter(|_| len != 0)?;
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    Some((number, rest))
}
