//! The certificate with which a peer has proved who it is: a [`PeerCertificate`].

use std::fmt::Write as _;
use std::sync::Arc;

/// The certificate of a peer, as recordings and events name it.
///
/// # Examples
/// ```
/// use blocksd_engine::certificate::PeerCertificate;
///
/// let certificate = PeerCertificate {
///     name: "pump-7".into(),
///     issuer: "CN=fleet".into(),
///     fingerprint: [0xab; 32],
/// };
/// assert!(certificate.fingerprint_hex().starts_with("abab"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The name of the device: 1 to 64 characters of `A-Z`, `a-z`, `0-9`, `.`, `_`, `:` and `-`.
    pub name: Arc<str>,
    /// The name of the authority that issued the certificate, such as `CN=fleet`.
    pub issuer: Box<str>,
    /// SHA-256 of the certificate in DER.
    pub fingerprint: [u8; 32],
}

impl PeerCertificate {
    /// Returns the fingerprint as 64 hexadecimal digits.
    #[must_use]
    pub fn fingerprint_hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.fingerprint {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Reads a fingerprint from 64 hexadecimal digits, which colons may separate. Returns `None` if it is not one.
    #[must_use]
    pub fn fingerprint_of_hex(text: &str) -> Option<[u8; 32]> {
        let mut digits = text.chars().filter(|it| *it != ':');
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            let mut digit = || digits.next()?.to_digit(16);
            *byte = u8::try_from(digit()? << 4 | digit()?).ok()?;
        }
        digits.next().is_none().then_some(bytes)
    }
}
