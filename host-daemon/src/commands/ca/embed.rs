//! The certificate and the key of a device in other formats than PEM: DER files, and arrays for firmware in Rust and C.
//! Start with [`write_embedded`].

use std::fmt::Write as _;

use super::files::{PUBLIC, SECRET, put};
use super::folder::CertificateFiles;
use super::moment::Moment;
use super::report::IssueReport;
use crate::cli::KeyFormat;
use crate::error::CommandError;

/// Length of a secret key of P-256, in bytes.
const SCALAR_LEN: usize = 32;
/// Bytes in a line of an array.
const LINE_LEN: usize = 12;

/// What firmware needs for TLS.
#[derive(Debug)]
pub(super) struct Embedded<'a> {
    /// The id of the device.
    pub(super) id: &'a str,
    /// The certificate of the device.
    pub(super) certificate: &'a [u8],
    /// Its secret key in PKCS #8, unless only the device has it.
    pub(super) key: Option<&'a [u8]>,
    /// The certificate of the authority.
    pub(super) authority: &'a [u8],
    /// When this was made.
    pub(super) made: Moment,
}

/// Whether there are files with the secret key besides that in PEM.
pub(super) fn has_key(files: &CertificateFiles) -> bool {
    let mut files = [&files.pkcs8, &files.rust, &files.c].into_iter();
    files.any(|file| file.symlink_metadata().is_ok())
}

/// Writes the files of this format, and those of others that exist. Old ones are kept under numbers.
///
/// # Errors
/// [`CommandError::Write`], [`CommandError::File`].
pub(super) fn write_embedded(
    files: &CertificateFiles,
    embedded: &Embedded<'_>,
    format: KeyFormat,
    report: &mut IssueReport,
) -> Result<(), CommandError> {
    let is_wanted =
        |file: &std::path::Path, of: KeyFormat| format == of || file.symlink_metadata().is_ok();
    if let Some(key) = embedded.key
        && is_wanted(&files.pkcs8, KeyFormat::Der)
    {
        let kept = put(&files.pkcs8, key, SECRET)?;
        report.add(&files.pkcs8, "its secret key in PKCS #8", kept);
    }
    if is_wanted(&files.der, KeyFormat::Der) {
        let kept = put(&files.der, embedded.certificate, PUBLIC)?;
        report.add(&files.der, "its certificate in DER", kept);
    }
    let what = match embedded.key {
        Some(_) => "arrays with its secret key",
        None => "arrays without a key",
    };
    if is_wanted(&files.rust, KeyFormat::Rust) {
        let kept = put(&files.rust, rust(embedded).as_bytes(), SECRET)?;
        report.add(&files.rust, what, kept);
    }
    if is_wanted(&files.c, KeyFormat::C) {
        let kept = put(&files.c, c(embedded).as_bytes(), SECRET)?;
        report.add(&files.c, what, kept);
    }
    Ok(())
}

/// An array: its name in Rust, what it is, and its bytes.
type ByteArray<'a> = (&'static str, &'static str, &'a [u8]);

fn arrays<'a>(embedded: &Embedded<'a>) -> Vec<ByteArray<'a>> {
    let key = embedded.key.map(|key| {
        let text = "Secret key of the device in PKCS #8, as mbedtls_pk_parse_key takes it.";
        ("DEVICE_KEY_PKCS8", text, key)
    });
    let scalar = embedded.key.and_then(scalar).map(|key| {
        let text = "Secret key of the device: the scalar of P-256, as p256::SecretKey::from_slice takes it.";
        ("DEVICE_KEY", text, key)
    });
    let certificates: [ByteArray<'a>; 2] = [
        (
            "CA_CERTIFICATE",
            "Certificate of the authority, in DER: the daemon's certificate is signed with its key.",
            embedded.authority,
        ),
        (
            "DEVICE_CERTIFICATE",
            "Certificate of the device, in DER.",
            embedded.certificate,
        ),
    ];
    certificates.into_iter().chain(key).chain(scalar).collect()
}

fn rust(embedded: &Embedded<'_>) -> String {
    let mut text = format!(
        "// TLS identity of the device {id}. Written by `blocksd ca`.{secret}\n\n\
         /// Id of the device.\n\
         pub const DEVICE_ID: &str = \"{id}\";\n\n\
         /// When this was made, in seconds since 1970: no clock is right that is earlier.\n\
         pub const MADE_AT_S: u64 = {made};\n",
        id = embedded.id,
        made = embedded.made.seconds(),
        secret = secret(embedded),
    );
    for (name, what, bytes) in arrays(embedded) {
        let lines = lines(bytes);
        let len = bytes.len();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n/// {what}\n#[rustfmt::skip]\npub static {name}: [u8; {len}] = [\n{lines}];\n"
        );
    }
    text
}

fn c(embedded: &Embedded<'_>) -> String {
    let mut text = format!(
        "/* TLS identity of the device {id}. Written by `blocksd ca`.{secret}\n\
        \x20* Include it in one source file. */\n\
         #ifndef BLOCKSD_IDENTITY_H\n\
         #define BLOCKSD_IDENTITY_H\n\n\
         /* Id of the device. */\n\
         static const char device_id[] = \"{id}\";\n\n\
         /* When this was made, in seconds since 1970: no clock is right that is earlier. */\n\
         static const unsigned long long made_at_s = {made}ULL;\n",
        id = embedded.id,
        made = embedded.made.seconds(),
        secret = secret(embedded),
    );
    for (name, what, bytes) in arrays(embedded) {
        let (name, lines, len) = (name.to_lowercase(), lines(bytes), bytes.len());
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n/* {what} */\nstatic const unsigned char {name}[{len}] = {{\n{lines}}};\n"
        );
    }
    text += "\n#endif\n";
    text
}

fn secret(embedded: &Embedded<'_>) -> &'static str {
    match embedded.key {
        Some(_) => " It has a secret key: do not commit it.",
        None => "",
    }
}

fn lines(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        let bytes: Vec<_> = line.iter().map(|byte| format!("0x{byte:02x}")).collect();
        format!("    {},\n", bytes.join(", "))
    };
    bytes.chunks(LINE_LEN).map(line).collect()
}

/// The scalar in a PKCS #8 key of P-256. Only the algorithm precedes it, which has no such bytes.
fn scalar(pkcs8: &[u8]) -> Option<&[u8]> {
    /// The begin of an `ECPrivateKey` (RFC 5915): `INTEGER 1`, and an octet string of 32 bytes.
    const BEGIN: [u8; 5] = [2, 1, 1, 4, 32];
    let mut windows = pkcs8.windows(BEGIN.len());
    let at = windows.position(|window| window == BEGIN)? + BEGIN.len();
    pkcs8.get(at..at + SCALAR_LEN)
}
