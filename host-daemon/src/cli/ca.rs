//! The arguments of `ca`. Start with [`CaCommand`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use framing_core::session::Device;

/// Length of a common name in a certificate, in characters (`ub-common-name` of X.509).
pub(crate) const COMMON_NAME_MAX: usize = 64;
/// Length of a name of a host, in bytes.
const HOST_NAME_MAX: usize = 253;
/// Length of a label of such a name, in bytes.
const LABEL_MAX: usize = 63;

/// Arguments of `ca`.
#[derive(Args, Debug)]
pub struct Ca {
    /// What to do.
    #[command(subcommand)]
    pub command: CaCommand,
}

/// The commands of `ca`.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make a certificate authority in a new folder.
    Init(CaInit),
    /// Make a key and a certificate for a server.
    Server(CaServer),
    /// Make a key and a certificate for a device.
    Device(CaDevice),
    /// Make a new certificate for the same key and names.
    Renew(CaRenew),
    /// Revoke the certificates of a device or server, and renew crl.pem.
    Revoke(CaRevoke),
    /// Renew crl.pem, the list of revoked certificates.
    Crl(CaCrl),
    /// List the certificates.
    List(CaList),
}

/// Arguments of `ca init`.
#[derive(Args, Debug)]
pub struct CaInit {
    /// Folder to make, or an empty folder.
    pub dir: PathBuf,
    /// Name of the certificate authority, of up to 64 characters; by default `blocksd CA` and the date.
    #[arg(long, value_name = "CN", value_parser = common_name)]
    pub name: Option<String>,
}

/// Arguments of `ca server`.
#[derive(Args, Debug)]
pub struct CaServer {
    /// Folder of the certificate authority.
    pub dir: PathBuf,
    /// Names and IP addresses by which clients connect; the first is also the name of the files.
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<HostName>,
    /// Days until the certificate expires, at most until that of the authority does.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
}

/// Arguments of `ca device`.
#[derive(Args, Debug)]
pub struct CaDevice {
    /// Folder of the certificate authority.
    pub dir: PathBuf,
    /// Id of the device: up to 64 letters, digits, `.`, `_`, `:` and `-`, not an IP address.
    #[arg(value_parser = device_id)]
    pub id: String,
    /// Certify the public key of this certificate request (PKCS #10, PEM or DER), instead of making a key. The names and
    /// extensions of the request are ignored.
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,
    /// Days until the certificate expires, at most until that of the authority does.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// What to write besides ID.pem and ID.key.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = KeyFormat::Pem)]
    pub format: KeyFormat,
}

/// Arguments of `ca renew`.
#[derive(Args, Debug)]
pub struct CaRenew {
    /// Folder of the certificate authority.
    pub dir: PathBuf,
    /// Id of the device, or first name of the server.
    pub id: String,
    /// Days until the new certificate expires, at most until that of the authority does.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// Which one, where a device and a server have this name.
    #[arg(long, value_enum)]
    pub kind: Option<CertificateKind>,
}

/// Arguments of `ca revoke`.
#[derive(Args, Debug)]
pub struct CaRevoke {
    /// Folder of the certificate authority.
    pub dir: PathBuf,
    /// Id of the device, or first name of the server.
    pub id: String,
    /// Which one, where a device and a server have this name.
    #[arg(long, value_enum)]
    pub kind: Option<CertificateKind>,
}

/// Arguments of `ca crl`.
#[derive(Args, Debug)]
pub struct CaCrl {
    /// Folder of the certificate authority.
    pub dir: PathBuf,
    /// Days until the list is out of date.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
}

/// Arguments of `ca list`.
#[derive(Args, Debug)]
pub struct CaList {
    /// Folder of the certificate authority.
    pub dir: PathBuf,
    /// How to print the certificates.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ListOutput::Text)]
    pub output: ListOutput,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CertificateKind {
    /// A device or another client.
    Device,
    /// A server, such as the daemon.
    Server,
}

impl CertificateKind {
    /// The name, which is also that of the command and of the folder.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Server => "server",
        }
    }
}

/// What `ca device` writes besides PEM files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyFormat {
    /// Nothing.
    Pem,
    /// The certificate as ID.der, and the key as ID.pk8 (PKCS #8).
    Der,
    /// Arrays for firmware in Rust, ID.rs.
    Rust,
    /// Arrays for firmware in C, ID.h.
    C,
}

/// How `ca list` prints certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListOutput {
    /// A table.
    Text,
    /// One JSON object per line.
    Json,
}

/// The name of a server in its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// A DNS name.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(address) => Ok(Self::Ip(address)),
            Err(_) if is_dns_name(text) => Ok(Self::Dns(text.to_owned())),
            Err(_) if text.contains('*') => Err("a wildcard is not supported; give each name"),
            Err(_) => Err("not a host name or an IP address"),
        }
    }
}

/// Whether a text is a DNS name as RFC 5280 permits it in a certificate. A name whose last label is a number could be
/// confused with an IP address, and is not one.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_ldh = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(is_ldh)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    text.len() <= HOST_NAME_MAX && text.split('.').all(is_label) && !is_number
}

/// The id of a device, by the rules of acknowledged sessions.
fn device_id(text: &str) -> Result<String, String> {
    Device::new(text).map_err(|error| error.to_string())?;
    if text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        return Err("an IP address is not a device id: a daemon refuses it".to_owned());
    }
    if text.bytes().all(|byte| byte == b'.') {
        return Err("a device id has more than dots".to_owned());
    }
    Ok(text.to_owned())
}

/// The name of a certificate authority.
fn common_name(text: &str) -> Result<String, String> {
    let len = text.chars().count();
    if !(1..=COMMON_NAME_MAX).contains(&len) {
        return Err(format!(
            "a name has 1 to {COMMON_NAME_MAX} characters, and this has {len}"
        ));
    }
    match text.chars().any(char::is_control) {
        true => Err("a name has no control characters".to_owned()),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_name_cannot_be_taken_for_an_address() {
        let label = "a".repeat(63);
        let long = [&*label; 4].join(".");
        for name in [
            "a",
            "boiler-17",
            "A.b-c.D9",
            "x.0y",
            &label,
            "xn--e1afmkfd",
            &long[..253],
        ] {
            assert!(is_dns_name(name), "{name}");
        }
        let too_long = "a".repeat(64);
        let hidden = [
            "", ".", "..", "a.", ".a", "a..b", "-a", "a-", "a_b", "a:b", "a b", "é", "*.a",
        ];
        let numbers = ["17", "a.17", "1.2.3.4", "0x", "a.0xff", "1.2.3.400"];
        for name in hidden.into_iter().chain(numbers).chain([&*too_long, &long]) {
            assert!(!is_dns_name(name), "{name}");
        }
    }

    #[test]
    fn a_device_id_is_one_of_a_session_and_never_a_path() {
        for id in [
            "a",
            "boiler-17",
            "a:b",
            ".hidden",
            "1.2.3",
            "a_b",
            &"x".repeat(64),
        ] {
            assert_eq!(device_id(id), Ok(id.to_owned()));
        }
        for id in [
            "",
            "1.2.3.4:5",
            ".",
            "..",
            "...",
            "a/b",
            "../a",
            "a b",
            "é",
            "10.0.0.7",
            "::1",
            "a\n",
            "%",
            &"x".repeat(65),
        ] {
            assert!(device_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        assert_eq!("::1".parse(), Ok(HostName::Ip("::1".parse().unwrap())));
        assert_eq!("a.b".parse(), Ok(HostName::Dns("a.b".to_owned())));
        for name in ["*.a", "a/b", "", "300.1.1.1", "[::1]"] {
            assert!(name.parse::<HostName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_common_name_is_bounded_in_characters() {
        assert!(common_name(&"é".repeat(64)).is_ok());
        for name in ["", "a\nb", &"é".repeat(65)] {
            assert!(common_name(name).is_err(), "{name}");
        }
    }
}
