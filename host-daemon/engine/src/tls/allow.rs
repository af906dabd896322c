//! The list of devices that may connect: an [`AllowList`].

use std::collections::HashSet;

use wildmatch::WildMatch;

use crate::certificate::PeerCertificate;

/// Before a fingerprint.
const FINGERPRINT: &str = "sha256:";

/// Devices that may connect: names, patterns with `*` and `?`, and fingerprints of certificates.
///
/// # Examples
/// ```
/// use blocksd_engine::certificate::PeerCertificate;
/// use blocksd_engine::tls::AllowList;
///
/// let list: AllowList = "# boilers of house 3\nboiler-*\npump-7\n".parse()?;
/// let certificate = |name: &str| PeerCertificate {
///     name: name.into(),
///     issuer: "CN=fleet".into(),
///     fingerprint: [0; 32],
/// };
/// assert!(list.allows(&certificate("boiler-17")));
/// assert!(!list.allows(&certificate("pump-8")));
/// # Ok::<(), blocksd_engine::tls::AllowError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    names: HashSet<Box<str>>,
    patterns: Vec<WildMatch>,
    fingerprints: HashSet<[u8; 32]>,
}

/// A line of a list that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{text}` {reason}")]
pub struct AllowError {
    /// The number of the line, from 1.
    pub line: usize,
    /// The text of the line, cut after 80 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl AllowList {
    /// Returns whether the device of a certificate may connect.
    #[must_use]
    pub fn allows(&self, certificate: &PeerCertificate) -> bool {
        self.names.contains(&*certificate.name)
            || self.fingerprints.contains(&certificate.fingerprint)
            || self
                .patterns
                .iter()
                .any(|pattern| pattern.matches(&certificate.name))
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len() + self.patterns.len() + self.fingerprints.len()
    }

    /// Returns whether nobody may connect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::str::FromStr for AllowList {
    type Err = AllowError;

    /// Reads one entry a line. Empty lines, and what follows a `#`, are ignored.
    fn from_str(text: &str) -> Result<Self, AllowError> {
        let mut list = Self::default();
        for (line, written) in (1..).zip(text.lines()) {
            let entry = written.split('#').next().unwrap_or_default().trim();
            let refused = |reason| AllowError {
                line,
                text: entry.chars().take(80).collect(),
                reason,
            };
            if entry.is_empty() {
                continue;
            }
            if let Some(hex) = entry.strip_prefix(FINGERPRINT) {
                let bytes = PeerCertificate::fingerprint_of_hex(hex);
                let reason =
                    "is not a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons";
                list.fingerprints
                    .insert(bytes.ok_or_else(|| refused(reason))?);
                continue;
            }
            let is_in = |it: char| it.is_ascii_alphanumeric() || "._:-*?".contains(it);
            if !entry.chars().all(is_in) || 64 < entry.len() {
                let reason =
                    "is neither a device name, nor a pattern with * or ?, nor sha256:FINGERPRINT";
                return Err(refused(reason));
            }
            if entry.contains(['*', '?']) {
                list.patterns.push(WildMatch::new(entry));
            } else {
                list.names.insert(entry.into());
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str, fingerprint: [u8; 32]) -> PeerCertificate {
        PeerCertificate {
            name: name.into(),
            issuer: "CN=fleet".into(),
            fingerprint,
        }
    }

    #[test]
    fn names_patterns_and_fingerprints_allow() {
        let text = format!(
            "pump-7 # the old one\n\n  boiler-?\nsha256:{}\nSENSOR*\n",
            "AB:".repeat(31) + "ab"
        );
        let list: AllowList = text.parse().unwrap();
        assert_eq!(list.len(), 4);
        for (name, first, allowed) in [
            ("pump-7", 0, true),
            ("pump-70", 0, false),
            ("boiler-1", 0, true),
            ("boiler-12", 0, false),
            ("SENSOR", 0, true),
            ("sensor", 0, false),
            ("other", 0xab, true),
        ] {
            let it = certificate(name, [first; 32]);
            assert_eq!(list.allows(&it), allowed, "{name}");
        }
        let nobody: AllowList = "# nobody\n".parse().unwrap();
        assert!(nobody.is_empty() && !nobody.allows(&certificate("pump-7", [0; 32])));
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line) in [
            ("a\nb c", 2),
            ("sha256:12", 1),
            (&format!("sha256:{}", "+1".repeat(32)), 1),
            ("\n\nü", 3),
            (&"x".repeat(65), 1),
        ] {
            let error = text.parse::<AllowList>().unwrap_err();
            assert_eq!(error.line, line, "{error}");
        }
    }
}
