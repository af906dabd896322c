//! Formats byte strings and socket addresses as Python 2 prints them: [`Repr`] and [`SockName`].

use std::fmt::{self, Write as _};
use std::net::SocketAddr;

/// A byte string as Python 2's `repr` shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repr<'a>(pub &'a [u8]);

impl fmt::Display for Repr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains(&b'\'') && !self.0.contains(&b'"') {
            '"'
        } else {
            '\''
        };
        f.write_char(quote)?;
        for &byte in self.0 {
            match byte {
                b'\\' => f.write_str("\\\\")?,
                b'\t' => f.write_str("\\t")?,
                b'\n' => f.write_str("\\n")?,
                b'\r' => f.write_str("\\r")?,
                b' '..=b'~' if char::from(byte) == quote => write!(f, "\\{quote}")?,
                b' '..=b'~' => f.write_char(char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_char(quote)
    }
}

/// A socket address as Python's `getsockname` gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SockName(pub SocketAddr);

impl fmt::Display for SockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(address) => write!(f, "('{}', {})", address.ip(), address.port()),
            SocketAddr::V6(address) => write!(
                f,
                "('{}', {}, {}, {})",
                address.ip(),
                address.port(),
                address.flowinfo(),
                address.scope_id()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_chosen_and_escaped_as_python_does() {
        for (bytes, repr) in [
            (&b"plain"[..], "'plain'"),
            (b"it's", "\"it's\""),
            (b"\"", "'\"'"),
            (b"'\"", "'\\'\"'"),
            (b"\t\n\r\\", "'\\t\\n\\r\\\\'"),
            (b"\0\x1f\x7f\xff~ ", "'\\x00\\x1f\\x7f\\xff~ '"),
        ] {
            assert_eq!(Repr(bytes).to_string(), repr);
        }
    }

    #[test]
    fn addresses_are_tuples() {
        let name = |text: &str| text.parse().map(|address| SockName(address).to_string());
        assert_eq!(name("127.0.0.1:1060"), Ok("('127.0.0.1', 1060)".into()));
        assert_eq!(name("[::1]:1060"), Ok("('::1', 1060, 0, 0)".into()));
    }
}
