//! Looks for mistakes in files that TLS takes without an error: certificates, and lists of revoked ones ([`NewestLists`]).

use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{
    CertificateRevocationList, FromDer, GeneralName, ParsedExtension, X509Certificate,
    X509Extension,
};

/// A list of revoked certificates, to be compared with the next one of the same authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListAge {
    /// The name of the authority, and the identifier of its key.
    authority: (Vec<u8>, Option<Vec<u8>>),
    issuer: String,
    /// The number of the list, without leading zeros.
    number: Option<Vec<u8>>,
    /// Seconds since 1970.
    this_update: i64,
    next_update: Option<i64>,
}

impl ListAge {
    pub(super) fn of(list: &CertificateRevocationList<'_>) -> Self {
        let number = list.extensions().iter().find_map(number);
        Self {
            authority: (
                list.tbs_cert_list.issuer.as_raw().to_vec(),
                list.extensions().iter().find_map(authority_key),
            ),
            issuer: list.issuer().to_string(),
            number,
            this_update: list.last_update().timestamp(),
            next_update: list.next_update().map(|it| it.timestamp()),
        }
    }

    /// When the next one is due, in seconds since 1970.
    pub(super) const fn end(&self) -> Option<i64> {
        self.next_update
    }

    /// Says that the next one is overdue.
    pub(super) fn expired(&self, path: &Path) -> String {
        format!(
            "the list of revoked certificates of {} is past its next update ({})",
            self.issuer,
            path.display()
        )
    }

    /// Whether a certificate is that of the authority of this list.
    fn is_of(&self, certificate: &X509Certificate<'_>) -> bool {
        let (name, key) = &self.authority;
        let own_key = certificate.extensions().iter().find_map(own_key);
        let is_key = match (key, own_key) {
            (Some(key), Some(own_key)) => *key == own_key,
            _ => true,
        };
        is_key && *name == certificate.subject().as_raw()
    }

    /// Whether this list is older than another one of the same authority.
    fn is_older_than(&self, other: &Self) -> bool {
        if self.authority != other.authority {
            return false;
        }
        match (&self.number, &other.number) {
            (Some(one), Some(other)) => (one.len(), one) < (other.len(), other),
            _ => self.this_update < other.this_update,
        }
    }
}

/// The newest list of each authority that was in effect.
#[derive(Debug, Default)]
pub(super) struct NewestLists(Vec<ListAge>);

impl NewestLists {
    pub(super) fn add(&mut self, lists: &[ListAge]) {
        for list in lists {
            let known = self.0.iter_mut().find(|it| it.authority == list.authority);
            match known {
                Some(known) if list.is_older_than(known) => {}
                Some(known) => known.clone_from(list),
                None => self.0.push(list.clone()),
            }
        }
    }

    /// Says which lists are older than one that was in effect.
    pub(super) fn warnings(&self, path: &Path, lists: &[ListAge]) -> Vec<String> {
        let older = |list: &&ListAge| self.0.iter().any(|newest| list.is_older_than(newest));
        let text = |list: &ListAge| {
            format!(
                "the list of revoked certificates of {} is older than one before it, so certificates that were revoked since are \
                 taken again ({})",
                list.issuer,
                path.display()
            )
        };
        lists.iter().filter(older).map(text).collect()
    }
}

/// Removes the lists that are older than another one of the same authority, and says which.
pub(super) fn take_older<T>(path: &Path, lists: &mut Vec<(ListAge, T)>) -> Vec<String> {
    let ages: Vec<_> = lists.iter().map(|(age, _)| age.clone()).collect();
    let is_older = |age: &ListAge| ages.iter().any(|other| age.is_older_than(other));
    lists.retain(|(age, _)| !is_older(age));
    let text = |age: &ListAge| {
        format!(
            "the file has two lists of revoked certificates of {}: the older one is left out ({})",
            age.issuer,
            path.display()
        )
    };
    ages.iter().filter(|age| is_older(age)).map(text).collect()
}

/// Says that an allow list names no device.
pub(super) fn of_nobody(path: &Path) -> String {
    format!(
        "the list of devices that may connect is empty, so none may ({})",
        path.display()
    )
}

/// When a certificate begins, in seconds since 1970.
pub(super) fn begin_of(certificate: &CertificateDer<'_>) -> i64 {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map_or(0, |(_, it)| it.validity().not_before.timestamp())
}

/// Says what is wrong with the certificate of a server.
pub(super) fn of_server(path: &Path, certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    if let Ok(Some(usage)) = parsed.extended_key_usage()
        && !(usage.value.server_auth || usage.value.any)
    {
        all.push(
            "is not one for servers, so clients refuse it: its extended key usage lacks serverAuth",
        );
    }
    if !has_name(&parsed) {
        all.push(
            "has no DNS name and no address as subject alternative name, so clients refuse it",
        );
    }
    let text = |what| format!("the certificate of the server {what} ({})", path.display());
    all.into_iter().map(text).collect()
}

/// Says what is wrong with the authorities of clients.
pub(super) fn of_authorities(path: &Path, certificates: &[CertificateDer<'_>]) -> Vec<String> {
    let parsed = certificates
        .iter()
        .filter_map(|it| X509Certificate::from_der(it).ok());
    let leaves = parsed.filter(|(_, it)| 1 < it.version().0 && !it.is_ca());
    let text = |(_, it): (_, X509Certificate<'_>)| {
        format!(
            "{} is no authority: the only client that it accepts is one with this certificate itself ({})",
            it.subject(),
            path.display()
        )
    };
    leaves.map(text).collect()
}

/// Says which lists of revoked certificates are of no authority of the clients.
pub(super) fn of_lists(
    path: &Path,
    lists: &[ListAge],
    authorities: &[CertificateDer<'_>],
) -> Vec<String> {
    let authorities: Vec<_> = authorities
        .iter()
        .filter_map(|it| Some(X509Certificate::from_der(it).ok()?.1))
        .collect();
    let is_unused = |list: &&ListAge| !authorities.iter().any(|it| list.is_of(it));
    let text = |list: &ListAge| {
        format!(
            "the list of revoked certificates of {} is not of an authority in `ca`: it revokes a certificate only if the client \
             sends that authority's certificate, too; add an intermediate authority to `ca`, or remove the list ({})",
            list.issuer,
            path.display()
        )
    };
    lists.iter().filter(is_unused).map(text).collect()
}

fn has_name(certificate: &X509Certificate<'_>) -> bool {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| {
        let names = &names.value.general_names;
        names
            .iter()
            .any(|it| matches!(it, GeneralName::DNSName(_) | GeneralName::IPAddress(_)))
    })
}

fn number(extension: &X509Extension<'_>) -> Option<Vec<u8>> {
    match extension.parsed_extension() {
        ParsedExtension::CRLNumber(number) => Some(number.to_bytes_be()),
        _ => None,
    }
}

fn authority_key(extension: &X509Extension<'_>) -> Option<Vec<u8>> {
    match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(it) => Some(it.key_identifier.as_ref()?.0.to_vec()),
        _ => None,
    }
}

fn own_key(extension: &X509Extension<'_>) -> Option<Vec<u8>> {
    match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(it) => Some(it.0.to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use crate::listen::handshake::Handshake as _;
    use crate::tls::server::TlsServer;
    use crate::tls::testing::Fleet;

    #[test]
    fn good_files_have_no_warning() {
        let fleet = Fleet::new();
        let mut files = fleet.files();
        files.crl = Some(fleet.write_list("crl.pem", 1));
        assert_eq!(
            TlsServer::load(files).unwrap().problems(),
            [] as [String; 0]
        );
    }

    #[test]
    fn a_server_that_clients_refuse_and_a_leaf_as_authority_have_warnings() {
        let fleet = Fleet::new();
        let key = KeyPair::generate().unwrap();
        let mut files = fleet.files();
        let nameless = CertificateParams::default().self_signed(&key).unwrap();
        files.cert = fleet.write("nameless.pem", &nameless.pem());
        files.key = fleet.write("nameless.key", &key.serialize_pem());
        files.ca = Some(files.cert.clone());
        let problems = TlsServer::load(files).unwrap().problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("subject alternative name"));
        assert!(problems[1].contains("is no authority"));

        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let mut files = fleet.files();
        let client = params.self_signed(&key).unwrap();
        files.cert = fleet.write("client.pem", &client.pem());
        files.key = fleet.write("client.key", &key.serialize_pem());
        let problems = TlsServer::load(files).unwrap().problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("lacks serverAuth"));
    }

    /// It has the same name as the authority, and another key.
    #[test]
    fn a_list_of_another_authority_has_a_warning() {
        let (fleet, other) = (Fleet::new(), Fleet::new());
        let mut files = fleet.files();
        files.crl = Some(other.write_list("crl.pem", 1));
        let problems = TlsServer::load(files).unwrap().problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("is not of an authority in `ca`"));
    }

    /// Whatever their order, the newest list counts.
    #[test]
    fn of_two_lists_of_an_authority_the_older_one_is_left_out() {
        let fleet = Fleet::new();
        let [old, new] = [1, 2].map(|number| {
            let path = fleet.write_list("crl.pem", number);
            std::fs::read_to_string(path).unwrap()
        });
        for both in [
            old.clone() + &new,
            new.clone() + &old,
            [&*old, &new, &old].concat(),
        ] {
            let mut files = fleet.files();
            files.crl = Some(fleet.write("both.pem", &both));
            let server = TlsServer::load(files).unwrap();
            assert_eq!(server.current().lists().len(), 1);
            let problems = server.problems();
            assert!(
                problems
                    .iter()
                    .all(|it| it.contains("the older one is left out")),
                "{problems:?}"
            );
            assert_eq!(problems.len(), both.matches("BEGIN").count() - 1);
        }
    }

    #[test]
    fn a_certificate_that_is_not_valid_yet_and_an_empty_allow_list_have_warnings() {
        let fleet = Fleet::new();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
        let mut files = fleet.files();
        files.cert = fleet.write("early.pem", &params.self_signed(&key).unwrap().pem());
        files.key = fleet.write("early.key", &key.serialize_pem());
        files.allow = Some(fleet.write("allow.txt", "# nobody\n"));
        let problems = TlsServer::load(files).unwrap().problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("is not valid yet"));
        assert!(problems[1].contains("so none may"));
    }

    /// It would block the reload until somebody writes to it.
    #[test]
    fn a_fifo_is_refused() {
        let fleet = Fleet::new();
        let mut files = fleet.files();
        let path = fleet.folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        files.crl = Some(path);
        let refused = TlsServer::load(files).unwrap_err();
        assert!(
            refused.to_string().contains("not a regular file"),
            "{refused}"
        );
    }

    #[test]
    fn an_older_list_has_a_warning_until_a_newer_one_comes() {
        let fleet = Fleet::new();
        let mut files = fleet.files();
        files.crl = Some(fleet.write_list("crl.pem", 255));
        let server = TlsServer::load(files.clone()).unwrap();
        let problems_with = |number| {
            fleet.write_list("crl.pem", number);
            server.renew(true).unwrap();
            server.problems()
        };
        assert!(problems_with(256).is_empty());
        let problems = problems_with(255);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("older than one before"));
        assert_eq!(problems_with(255).len(), 1);
        assert!(problems_with(256).is_empty());
        // The files of a new configuration are compared, too.
        fleet.write_list("crl.pem", 7);
        server.replace(&*TlsServer::load(files).unwrap());
        assert_eq!(server.problems().len(), 1);
    }
}
