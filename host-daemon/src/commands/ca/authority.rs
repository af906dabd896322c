//! The certificate authority: an [`Authority`] signs certificates and lists of revoked certificates.

use std::io;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PublicKeyData, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustix::rand::{GetRandomFlags, getrandom};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::folder::CaFolder;
use super::index::IndexEntry;
use super::moment::Moment;
use super::pem::{parse, read, read_certificate, unusable};
use crate::cli::{COMMON_NAME_MAX, CertificateKind, HostName, is_dns_name};
use crate::error::{CaError, CommandError};

/// Days that the certificate of an authority is valid: ten years, with their leap days.
const AUTHORITY_DAYS: u32 = 3_652;
/// How long before its making a certificate begins to be valid, for clocks that are slow.
const BACKDATE_S: i64 = 3_600;

/// An authority that can sign.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(super) certificate: CertificateDer<'static>,
    /// The key identifier in its certificate.
    key_identifier: KeyIdMethod,
    not_before: Moment,
    not_after: Moment,
}

/// A certificate to sign.
#[derive(Debug)]
pub(super) struct WantedCertificate<'a> {
    /// What it is for.
    pub(super) kind: CertificateKind,
    /// The id of the device, or the first name of the server.
    pub(super) id: &'a str,
    /// The names of a server.
    pub(super) names: &'a [HostName],
    /// How long it is valid, unless the authority's own certificate ends earlier.
    pub(super) days: u32,
}

/// A certificate that was signed.
#[derive(Debug)]
pub(super) struct SignedCertificate {
    /// The certificate, in PEM.
    pub(super) pem: String,
    /// The certificate, in DER.
    pub(super) der: Vec<u8>,
    /// Its line of the index.
    pub(super) entry: IndexEntry,
    /// Whether it ends earlier than wanted, since the authority's own certificate does.
    pub(super) is_cut: bool,
}

impl Authority {
    /// Makes an authority with a new key. Returns its certificate and its key too, in PEM.
    ///
    /// # Errors
    /// [`CaError::Sign`].
    pub(super) fn new(name: Option<&str>, now: Moment) -> Result<(Self, String, String), CaError> {
        let key = KeyPair::generate().map_err(sign_error)?;
        let key_pem = key.serialize_pem();
        let not_before = now.before_seconds(BACKDATE_S);
        let not_after = now.after_days(AUTHORITY_DAYS);
        let name = match name {
            Some(name) => name.to_owned(),
            None => format!("blocksd CA {}", now.date()),
        };
        let mut params = params(not_before, not_after, random_serial()?);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key_identifier = KeyIdMethod::PreSpecified(params.key_identifier(&key));
        let certificate = params.self_signed(&key).map_err(sign_error)?;
        let authority = Self {
            issuer: Issuer::new(params, key),
            certificate: certificate.der().clone(),
            key_identifier,
            not_before,
            not_after,
        };
        Ok((authority, certificate.pem(), key_pem))
    }

    /// Reads the authority of a folder.
    ///
    /// # Errors
    /// [`CommandError::File`], [`CaError::Unusable`].
    pub(super) fn read(folder: &CaFolder) -> Result<Self, CommandError> {
        let path = folder.certificate();
        let certificate = read_certificate(&path)?;
        let parsed = parse(&path, &certificate)?;
        if !parsed.is_ca() {
            return Err(unusable(&path, "not the certificate of an authority"));
        }
        let key_path = folder.key();
        let key = read_key(&String::from_utf8_lossy(&read(&key_path)?));
        let key = key.map_err(|reason| unusable(&key_path, reason))?;
        if key.public_key_raw() != &*parsed.public_key().subject_public_key.data {
            let reason = format!("not the key of {}", path.display());
            return Err(unusable(&key_path, reason));
        }
        let key_identifier = key_identifier(&parsed).unwrap_or(KeyIdMethod::Sha256);
        let validity = parsed.validity();
        let [not_before, not_after] = [validity.not_before, validity.not_after].map(Moment::of);
        let issuer = Issuer::from_ca_cert_der(&certificate, key);
        let issuer = issuer.map_err(|error| unusable(&path, error))?;
        Ok(Self {
            issuer,
            certificate,
            key_identifier,
            not_before,
            not_after,
        })
    }

    /// Until when its certificate is valid.
    pub(super) const fn not_after(&self) -> Moment {
        self.not_after
    }

    /// Signs a certificate for a key.
    ///
    /// # Errors
    /// [`CaError::Expired`], [`CaError::Sign`].
    pub(super) fn sign(
        &self,
        folder: &CaFolder,
        wanted: &WantedCertificate<'_>,
        key: &impl PublicKeyData,
        now: Moment,
    ) -> Result<SignedCertificate, CaError> {
        if self.not_after <= now {
            return Err(CaError::Expired {
                path: folder.certificate(),
                not_after: self.not_after.to_string(),
            });
        }
        let end = now.after_days(wanted.days);
        let not_after = end.min(self.not_after);
        let not_before = now.before_seconds(BACKDATE_S).max(self.not_before);
        let serial = random_serial()?;
        let mut params = params(not_before, not_after, serial);
        // A longer name is only among the alternative names, which are critical then.
        if wanted.id.chars().count() <= COMMON_NAME_MAX {
            let name = &mut params.distinguished_name;
            name.push(DnType::CommonName, wanted.id);
        }
        params.subject_alt_names = alternative_names(wanted)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match wanted.kind {
            CertificateKind::Device => ExtendedKeyUsagePurpose::ClientAuth,
            CertificateKind::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let certificate = params.signed_by(key, &self.issuer).map_err(sign_error)?;
        let der = certificate.der().to_vec();
        let entry = IndexEntry {
            serial: hex(&serial),
            kind: wanted.kind,
            id: wanted.id.to_owned(),
            not_before,
            not_after,
            fingerprint: hex(&Sha256::digest(&der)),
            revoked: None,
        };
        Ok(SignedCertificate {
            pem: certificate.pem(),
            der,
            entry,
            is_cut: not_after < end,
        })
    }

    /// Signs a list of the certificates among these that are revoked and have not expired, in PEM.
    ///
    /// # Errors
    /// [`CaError::Sign`].
    pub(super) fn sign_crl(
        &self,
        entries: &[IndexEntry],
        number: u64,
        days: u32,
        now: Moment,
    ) -> Result<String, CaError> {
        let listed = entries.iter().filter(|it| now < it.not_after);
        let listed = listed.filter_map(|it| {
            Some(RevokedCertParams {
                serial_number: SerialNumber::from(bytes(&it.serial)),
                revocation_time: it.revoked?.date_time(date_time_ymd),
                reason_code: None,
                invalidity_date: None,
            })
        });
        let params = CertificateRevocationListParams {
            this_update: now.before_seconds(BACKDATE_S).date_time(date_time_ymd),
            next_update: now.after_days(days).date_time(date_time_ymd),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: listed.collect(),
            key_identifier_method: self.key_identifier.clone(),
        };
        let crl = params.signed_by(&self.issuer);
        crl.and_then(|crl| crl.pem()).map_err(sign_error)
    }
}

/// Reads a key in PKCS #8.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_key(pem: &str) -> Result<KeyPair, String> {
    KeyPair::from_pem(pem).map_err(|error| format!("not a key in PKCS #8 and PEM: {error}"))
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The error of a certificate that cannot be made.
pub(super) fn sign_error(error: rcgen::Error) -> CaError {
    CaError::Sign(io::Error::other(error))
}

/// The bytes of a serial number in an index.
fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| hex.get(at..at + 2);
    let pairs = (0..hex.len()).step_by(2).filter_map(digits);
    let pairs = pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok());
    pairs.collect()
}

/// A serial number: random, positive, and 16 bytes long.
fn random_serial() -> Result<[u8; 16], CaError> {
    let mut serial = [0; 16];
    let mut rest = &mut serial[..];
    while !rest.is_empty() {
        match getrandom(&mut *rest, GetRandomFlags::empty()) {
            Ok(len) => rest = &mut rest[len..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(CaError::Sign(error.into())),
        }
    }
    // Not negative, and not shorter.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn params(not_before: Moment, not_after: Moment, serial: [u8; 16]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = not_before.date_time(date_time_ymd);
    params.not_after = not_after.date_time(date_time_ymd);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params
}

fn alternative_names(wanted: &WantedCertificate<'_>) -> Result<Vec<SanType>, CaError> {
    let text = |text: &str| text.try_into().map_err(sign_error);
    if wanted.kind == CertificateKind::Device {
        return Ok(vec![match is_dns_name(wanted.id) {
            true => SanType::DnsName(text(wanted.id)?),
            false => SanType::URI(text(&format!("urn:blocksd:{}", wanted.id))?),
        }]);
    }
    let names = wanted.names.iter().map(|name| match name {
        HostName::Dns(name) => Ok(SanType::DnsName(text(name)?)),
        HostName::Ip(address) => Ok(SanType::IpAddress(*address)),
    });
    names.collect()
}

fn key_identifier(certificate: &X509Certificate<'_>) -> Option<KeyIdMethod> {
    let mut extensions = certificate.iter_extensions();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(key) => {
            Some(KeyIdMethod::PreSpecified(key.0.to_vec()))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateRevocationListDer;
    use rustls::pki_types::pem::PemObject as _;
    use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

    use super::*;

    #[test]
    fn nothing_outlives_the_authority() {
        let place = tempfile::tempdir().unwrap();
        let folder = CaFolder::make(&place.path().join("ca")).unwrap();
        let now: Moment = "2026-11-28T21:10:24Z".parse().unwrap();
        let (authority, _, _) = Authority::new(None, now).unwrap();
        let key = KeyPair::generate().unwrap();
        let sign = |days, now| {
            let wanted = WantedCertificate {
                kind: CertificateKind::Device,
                id: "a",
                names: &[],
                days,
            };
            authority.sign(&folder, &wanted, &key, now)
        };
        let last = now.after_days(AUTHORITY_DAYS - 10);
        let whole = sign(10, last).unwrap();
        assert_eq!(
            (whole.is_cut, whole.entry.not_after),
            (false, authority.not_after())
        );
        let cut = sign(11, last).unwrap();
        assert_eq!(
            (cut.is_cut, cut.entry.not_after),
            (true, authority.not_after())
        );
        // A clock that was set back: the certificate does not begin before that of the authority.
        let early = sign(1, now.before_seconds(BACKDATE_S)).unwrap();
        assert_eq!(early.entry.not_before, now.before_seconds(BACKDATE_S));
        let expired = sign(1, authority.not_after()).unwrap_err();
        assert!(matches!(expired, CaError::Expired { .. }));
    }

    #[test]
    fn a_list_has_the_revoked_certificates_that_have_not_expired() {
        let now: Moment = "2026-11-28T21:10:24Z".parse().unwrap();
        let (authority, _, _) = Authority::new(None, now).unwrap();
        let entry = |serial: u8, days, revoked| IndexEntry {
            serial: hex(&[serial; 16]),
            kind: CertificateKind::Device,
            id: "a".to_owned(),
            not_before: now,
            not_after: now.after_days(days),
            fingerprint: String::new(),
            revoked,
        };
        let entries = [
            entry(0x41, 1, Some(now)),
            entry(0x42, 3, Some(now)),
            entry(0x43, 3, None),
        ];
        let states = |now| entries.each_ref().map(|entry| entry.state(now));
        assert_eq!(states(now), ["revoked", "revoked", "valid"]);
        assert_eq!(states(now.after_days(3)), ["revoked", "revoked", "expired"]);
        for (days, listed) in [(0, &[0x41, 0x42][..]), (1, &[0x42]), (3, &[])] {
            let pem = authority.sign_crl(&entries, 7, 30, now.after_days(days));
            let der = CertificateRevocationListDer::from_pem_slice(pem.unwrap().as_bytes());
            let der = der.unwrap();
            let (_, crl) = CertificateRevocationList::from_der(&der).unwrap();
            let serials = crl.iter_revoked_certificates();
            let serials: Vec<_> = serials.map(|it| it.raw_serial().to_vec()).collect();
            let wanted: Vec<_> = listed.iter().map(|serial| vec![*serial; 16]).collect();
            assert_eq!(serials, wanted, "after {days} days");
        }
    }

    #[test]
    fn a_serial_number_is_positive_and_never_short() {
        for _ in 0..1000 {
            let serial = random_serial().unwrap();
            assert!((0x40..0x80).contains(&serial[0]));
            assert_eq!(bytes(&hex(&serial)), serial);
        }
        assert_ne!(random_serial().unwrap(), random_serial().unwrap());
    }
}
