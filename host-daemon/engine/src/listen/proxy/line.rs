//! Parses a header of version 1, a line of text. Start with [`parse`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::header::{LINE_LEN_MAX, Parsed, ProxiedPeer, ProxyError};

/// Length of `PROXY TCP4 `, in bytes.
const TCP_LEN: usize = 11;

/// What a line says after `PROXY`.
#[derive(Clone, Copy)]
pub(super) enum LineKind {
    Tcp4,
    Tcp6,
    Unknown,
}

/// Parses a header of version 1, which begins with the bytes of its kind. The addresses are parsed when the line is
/// complete. After `UNKNOWN`, the text before CR LF is ignored, but a lone CR or LF is refused there too.
pub(super) fn parse(bytes: &[u8], kind: LineKind) -> Result<Parsed, ProxyError> {
    let area = &bytes[..bytes.len().min(LINE_LEN_MAX - 1)];
    let end = area.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let Some(end) = end else {
        return match area.len() == LINE_LEN_MAX - 1 {
            true => Err(ProxyError::LineTooLong),
            false => Ok(Parsed::Incomplete {
                at_least: rest_of(area, kind).min(LINE_LEN_MAX - area.len()),
            }),
        };
    };
    let not_an_end = |offset: usize, found: u8| Err(ProxyError::LineEnd { offset, found });
    match (bytes[end], bytes.get(end + 1)) {
        (b'\r', None) => return Ok(Parsed::Incomplete { at_least: 1 }),
        (b'\r', Some(b'\n')) => {}
        (b'\r', Some(found)) => return not_an_end(end + 1, *found),
        (found, _) => return not_an_end(end, found),
    }
    let source = match kind {
        LineKind::Tcp4 => source_of::<Ipv4Addr>(&bytes[TCP_LEN..end], "IPv4")?,
        LineKind::Tcp6 => source_of::<Ipv6Addr>(&bytes[TCP_LEN..end], "IPv6")?,
        LineKind::Unknown => ProxiedPeer::Unknown,
    };
    let len = end + 2;
    Ok(Parsed::Complete { len, source })
}

/// The least number of bytes that follow the beginning of a line.
fn rest_of(line: &[u8], kind: LineKind) -> usize {
    let address = match kind {
        LineKind::Tcp4 => "0.0.0.0".len(),
        LineKind::Tcp6 => "::".len(),
        LineKind::Unknown => return "\r\n".len(),
    };
    let least = [address, address, "0".len(), "0".len()];
    let fields = line[TCP_LEN..].split(|byte| *byte == b' ');
    let (count, last) = fields.fold((0, 0), |(count, _), field| (count + 1, field.len()));
    let Some(missing) = least.get(count..) else {
        return "\r\n".len();
    };
    let rest = least[count - 1].saturating_sub(last);
    let missing: usize = missing.iter().map(|len| " ".len() + len).sum();
    rest + missing + "\r\n".len()
}

/// Parses the addresses and ports of a line.
fn source_of<A>(fields: &[u8], family: &'static str) -> Result<ProxiedPeer, ProxyError>
where
    A: FromStr + Into<IpAddr>,
{
    let fields: Vec<_> = fields.split(|byte| *byte == b' ').collect();
    let [source, destination, source_port, destination_port] = fields[..] else {
        let found = fields.len();
        return Err(ProxyError::Fields { found });
    };
    let escaped = |text: &[u8]| text.escape_ascii().to_string().into();
    let address = |text: &[u8], field: &'static str| {
        let address = str::from_utf8(text)
            .ok()
            .and_then(|it| it.parse::<A>().ok());
        address.ok_or_else(|| ProxyError::Address {
            field,
            family,
            found: escaped(text),
        })
    };
    let port = |text: &[u8], field: &'static str| {
        port_number(text).ok_or_else(|| ProxyError::Port {
            field,
            found: escaped(text),
        })
    };
    let source = address(source, "source")?;
    address(destination, "destination")?;
    let source_port = port(source_port, "source")?;
    port(destination_port, "destination")?;
    Ok(ProxiedPeer::Tcp(SocketAddr::new(
        source.into(),
        source_port,
    )))
}

/// Parses a port: digits only, without leading zeros.
fn port_number(text: &[u8]) -> Option<u16> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    let has_zero = text.len() > 1 && text[0] == b'0';
    let text = str::from_utf8(text).ok()?;
    text.parse().ok().filter(|_| is_number && !has_zero)
}
