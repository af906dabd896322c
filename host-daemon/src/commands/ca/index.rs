//! The index of all certificates of an authority, the file `serials`: a [`SerialIndex`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::files::{self, PUBLIC};
use super::moment::Moment;
use super::pem::{read, unusable};
use crate::cli::CertificateKind;
use crate::error::{CaError, CommandError};

/// The first line of the file.
const HEADER: &str = "# blocksd ca 1: serial kind id not-before not-after sha256 state";

/// A line of the index: a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    /// The serial number, in hexadecimal digits.
    pub(super) serial: String,
    /// What it is for.
    pub(super) kind: CertificateKind,
    /// The id of the device, or the first name of the server.
    pub(super) id: String,
    /// From when it is valid.
    pub(super) not_before: Moment,
    /// Until when it is valid.
    pub(super) not_after: Moment,
    /// The SHA-256 of the certificate, in hexadecimal digits.
    pub(super) fingerprint: String,
    /// When it was revoked.
    pub(super) revoked: Option<Moment>,
}

impl IndexEntry {
    /// Whether it is valid at this moment, or later.
    pub(super) fn is_valid(&self, now: Moment) -> bool {
        self.revoked.is_none() && now < self.not_after
    }

    /// The state of the certificate at this moment, in a word.
    pub(super) fn state(&self, now: Moment) -> &'static str {
        match self.revoked {
            Some(_) => "revoked",
            None if self.is_valid(now) => "valid",
            None => "expired",
        }
    }
}

/// All certificates that an authority has made, in their order.
#[derive(Debug)]
pub(super) struct SerialIndex {
    path: PathBuf,
    /// The certificates.
    pub(super) entries: Vec<IndexEntry>,
}

impl SerialIndex {
    /// An index without certificates.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            entries: Vec::new(),
        }
    }

    /// Reads an index.
    ///
    /// # Errors
    /// [`CommandError::File`], [`CaError::Unusable`].
    pub(super) fn read(path: PathBuf) -> Result<Self, CommandError> {
        let text = String::from_utf8(read(&path)?);
        let text = text.map_err(|_| unusable(&path, "not a text"))?;
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            let reason = format!("not an index of `blocksd ca`: its first line is not `{HEADER}`");
            return Err(unusable(&path, reason));
        }
        let entry = |(at, line): (usize, &str)| {
            let entry = line.parse::<IndexEntry>();
            entry.map_err(|reason| unusable(&path, format_args!("line {}: {reason}", at + 2)))
        };
        let entries = lines.enumerate().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { path, entries })
    }

    /// Writes the index in place of the file.
    ///
    /// # Errors
    /// [`CommandError::Write`].
    pub(super) fn write(&self) -> Result<(), CommandError> {
        files::replace(&self.path, self.to_string().as_bytes(), PUBLIC)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The certificate with this serial number.
    pub(super) fn serial(&self, serial: &str) -> Option<&IndexEntry> {
        self.entries.iter().find(|it| it.serial == serial)
    }

    /// The kind of the certificates of an id. `given` is the one of the command line.
    ///
    /// # Errors
    /// [`CaError::Unknown`] if there are none, [`CaError::Ambiguous`] if there are both.
    pub(super) fn kind(
        &self,
        id: &str,
        given: Option<CertificateKind>,
    ) -> Result<CertificateKind, CaError> {
        let has = |kind| {
            let mut entries = self.entries.iter();
            given.is_none_or(|given| given == kind)
                && entries.any(|it| it.id == id && it.kind == kind)
        };
        match (has(CertificateKind::Device), has(CertificateKind::Server)) {
            (true, false) => Ok(CertificateKind::Device),
            (false, true) => Ok(CertificateKind::Server),
            (true, true) => Err(CaError::Ambiguous { id: id.to_owned() }),
            (false, false) => Err(CaError::Unknown {
                path: self.path.clone(),
                id: id.to_owned(),
            }),
        }
    }
}

impl fmt::Display for SerialIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        self.entries
            .iter()
            .try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for IndexEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            serial,
            kind,
            id,
            not_before,
            not_after,
            fingerprint,
            revoked,
        } = self;
        let kind = kind.as_str();
        write!(
            f,
            "{serial} {kind} {id} {not_before} {not_after} {fingerprint} "
        )?;
        match revoked {
            None => f.write_str("valid"),
            Some(at) => write!(f, "revoked {at}"),
        }
    }
}

impl FromStr for IndexEntry {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split(' ').collect();
        let (entry, state) = words.split_at_checked(6).ok_or("fewer than 7 words")?;
        let [serial, kind, id, not_before, not_after, fingerprint] = entry else {
            return Err("fewer than 7 words".to_owned());
        };
        let digits = |text: &str, len: usize| {
            let is_digit = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
            match text.len() == len && text.bytes().all(is_digit) {
                true => Ok(text.to_owned()),
                false => Err(format!("`{text}` is not {len} hexadecimal digits")),
            }
        };
        let moment = |text: &str| text.parse::<Moment>().map_err(|error| error.to_string());
        let kinds = [CertificateKind::Device, CertificateKind::Server];
        let kind = kinds.into_iter().find(|it| it.as_str() == *kind);
        let revoked = match state {
            ["valid"] => None,
            ["revoked", at] => Some(moment(at)?),
            _ => return Err("the state is not `valid`, or `revoked` and a time".to_owned()),
        };
        Ok(Self {
            serial: digits(serial, 32)?,
            kind: kind.ok_or("the kind is not `device` or `server`")?,
            id: (*id).to_owned(),
            not_before: moment(not_before)?,
            not_after: moment(not_after)?,
            fingerprint: digits(fingerprint, 64)?,
            revoked,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, kind: CertificateKind, revoked: Option<&str>) -> IndexEntry {
        let moment = |text: &str| text.parse().unwrap();
        IndexEntry {
            serial: "0123456789abcdef".repeat(2),
            kind,
            id: id.to_owned(),
            not_before: moment("2026-11-28T20:10:24Z"),
            not_after: moment("2027-11-28T21:10:24Z"),
            fingerprint: "0123456789abcdef".repeat(4),
            revoked: revoked.map(moment),
        }
    }

    #[test]
    fn an_index_is_read_as_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = SerialIndex::new(folder.path().join("serials"));
        index.entries = vec![
            entry("a:b", CertificateKind::Device, None),
            entry("::1", CertificateKind::Server, Some("2027-01-01T00:00:00Z")),
        ];
        index.write().unwrap();
        let read = SerialIndex::read(index.path.clone()).unwrap();
        assert_eq!(read.entries, index.entries);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let line = entry("a", CertificateKind::Device, None).to_string();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serials");
        let cut = |len: usize| &line[..len];
        for (text, says) in [
            (String::new(), "first line"),
            (
                format!("{HEADER}\n{line}\n{}", cut(40)),
                "line 3: fewer than 7 words",
            ),
            (format!("{HEADER}\n{}x\n", line), "line 2: the state"),
            (
                format!("{HEADER}\n{}\n", line.replace("device", "dev")),
                "the kind",
            ),
            (
                format!("{HEADER}\n{}\n", line.replacen('0', "g", 1)),
                "hexadecimal",
            ),
            (format!("{HEADER}\n\n"), "line 2: fewer"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = SerialIndex::read(path.clone()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_name_of_both_kinds_needs_the_kind() {
        use CertificateKind::{Device, Server};
        let mut index = SerialIndex::new("serials".into());
        index.entries = vec![
            entry("both", Device, None),
            entry("both", Server, None),
            entry("one", Server, None),
        ];
        assert!(matches!(
            index.kind("both", None),
            Err(CaError::Ambiguous { .. })
        ));
        assert!(matches!(index.kind("both", Some(Server)), Ok(Server)));
        assert!(matches!(index.kind("one", None), Ok(Server)));
        assert!(matches!(
            index.kind("one", Some(Device)),
            Err(CaError::Unknown { .. })
        ));
    }
}
