//! TLS: which servers a device refuses, which devices a host refuses, and how long the device waits then.

use std::sync::Arc;

use framing_uplink::SessionReport;
use framing_uplink::tls::{CertificateDer, Credentials, CredentialsError};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::ServerConfig;

use crate::certificates::{Ca, Certified, SERVER, Wanted};
use crate::support::Time;
use crate::tls::{BUILT_S, PATIENT, application, assert_whole};
use crate::tls_host::{Course, TlsHost};

/// Runs the application against these servers; returns its report, and the delays between its attempts in ms.
fn run(
    ca: &Ca,
    device: &Certified,
    servers: &[(Arc<ServerConfig>, Course)],
) -> (SessionReport, Vec<u64>, Vec<String>) {
    let time = Time::default();
    let host = TlsHost::new(&time, servers);
    let report = application(&time, PATIENT, ca, device, &host);
    if report.ended {
        assert_whole(report, &host, "");
    }
    let attempts = host.attempts_ms.borrow();
    let delays = attempts.windows(2).map(|pair| pair[1] - pair[0]);
    (report, delays.collect(), host.refused.take())
}

/// Whether a delay is that of a device that is refused.
fn is_long(delay_ms: &u64) -> bool {
    (30_000..61_000).contains(delay_ms)
}

#[test]
fn a_device_refuses_the_wrong_server_and_waits_long() {
    let ca = Ca::new();
    let device = ca.issue(&Wanted::DEVICE);
    let another = Ca::new();
    let wanted = Wanted::SERVER;
    let cases = [
        ("another CA", ca.server(&[&another.issue(&wanted)])),
        (
            "another CA, and its certificate",
            ca.server(&[
                &another.issue(&wanted),
                &Certified {
                    der: another.der.clone(),
                    key: Vec::new(),
                },
            ]),
        ),
        (
            "another name",
            ca.server(&[&ca.issue(&Wanted {
                name: "daemon.example.org",
                ..wanted
            })]),
        ),
        (
            "over at the time of the build",
            ca.server(&[&ca.issue(&Wanted {
                years: (2010, 2022),
                ..Wanted::SERVER
            })]),
        ),
        (
            "for clients",
            ca.server(&[&ca.issue(&Wanted {
                usage: Some(ExtendedKeyUsagePurpose::ClientAuth),
                ..Wanted::SERVER
            })]),
        ),
        ("issued by a certificate that is not a CA", {
            let below = ca.below();
            let issuer = Certified {
                der: below.der.clone(),
                key: Vec::new(),
            };
            ca.server(&[&below.issue(&Wanted::SERVER), &issuer])
        }),
    ];
    for (what, server) in cases {
        let (report, delays, _) = run(&ca, &device, &[(server, Course::Lives)]);
        assert_eq!(
            (report.left, report.connections),
            (8, 0),
            "{what}: {report:?}"
        );
        assert!((9..=20).contains(&delays.len()), "{what}: {delays:?}");
        assert!(delays.iter().all(is_long), "{what}: {delays:?}");
    }
}

#[test]
fn a_device_accepts_a_server_with_its_ca_in_the_chain_or_without_usages() {
    let ca = Ca::new();
    let device = ca.issue(&Wanted::DEVICE);
    let own = ca.issue(&Wanted::SERVER);
    let root = Certified {
        der: ca.der.clone(),
        key: Vec::new(),
    };
    let free = ca.issue(&Wanted {
        usage: None,
        ..Wanted::SERVER
    });
    for chain in [&[&own, &root][..], &[&free]] {
        let (report, ..) = run(&ca, &device, &[(ca.server(chain), Course::Lives)]);
        assert_eq!((report.connections, report.ended), (1, true));
    }
}

#[test]
fn a_certificate_that_began_after_the_build_is_accepted_until_the_time_is_known() {
    let ca = Ca::new();
    let device = ca.issue(&Wanted::DEVICE);
    let server = |years| {
        ca.server(&[&ca.issue(&Wanted {
            years,
            ..Wanted::SERVER
        })])
    };
    // The host says that it is 2027.
    let (report, delays, _) = run(&ca, &device, &[(server((2026, 2027)), Course::Lives)]);
    assert_eq!((delays.len(), report.ended), (0, true));
    for years in [(2028, 2090), (2020, 2026)] {
        // The time is learnt on the first connection, which is cut after the WELCOME.
        let servers = [
            (server((2020, 2090)), Course::Down(1_000)),
            (server(years), Course::Lives),
        ];
        let (report, delays, _) = run(&ca, &device, &servers);
        assert_eq!((report.connections, report.unwelcome), (1, 0), "{report:?}");
        assert!(delays[0] < 1_000, "{delays:?}");
        assert!(delays[1..].iter().all(is_long), "{years:?}: {delays:?}");
        assert!(2 <= delays.len(), "{delays:?}");
        // Without it, only a certificate that is over at the time of the build is refused.
        let (report, delays, _) = run(&ca, &device, &[(server(years), Course::Lives)]);
        assert_eq!((delays.len(), report.ended), (0, true), "{years:?}");
    }
}

#[test]
fn a_device_that_the_host_refuses_waits_long() {
    let ca = Ca::new();
    let stranger = Ca::new().issue(&Wanted::DEVICE);
    let server = ca.server(&[&ca.issue(&Wanted::SERVER)]);
    // With the alert at once; without it, from the second time in a row.
    for (course, short) in [(Course::Lives, 0), (Course::LosesAlert, 1)] {
        let (report, delays, refused) = run(&ca, &stranger, &[(server.clone(), course)]);
        assert_eq!(report.left, 8, "{report:?}");
        assert_eq!(report.connections, report.unwelcome);
        assert!((9..=20).contains(&delays.len()), "{course:?}: {delays:?}");
        let (first, rest) = delays.split_at(short);
        assert!(first.iter().all(|delay_ms| *delay_ms < 1_000), "{delays:?}");
        assert!(rest.iter().all(is_long), "{course:?}: {delays:?}");
        assert!(
            refused
                .iter()
                .all(|why| why.contains("invalid peer certificate")),
            "{refused:?}"
        );
    }
}

#[test]
fn credentials_that_do_not_fit_are_refused() {
    let ca = Ca::new();
    let device = ca.issue(&Wanted::DEVICE);
    let another = ca.issue(&Wanted::DEVICE);
    let no_ca = CertificateDer::from(b"not a certificate".to_vec());
    let new = |certificate: &[u8], key: &[u8], ca, name| {
        Credentials::new(certificate, key, ca, name, BUILT_S).err()
    };
    let key = &device.key[..];
    assert_eq!(new(&device.der, key, &ca.der, SERVER), None);
    assert_eq!(new(&device.der, key, &ca.der, "192.0.2.1"), None);
    // The key alone, from its PKCS#8.
    let at = key
        .windows(5)
        .position(|it| it == [2, 1, 1, 4, 32])
        .unwrap()
        + 5;
    assert_eq!(new(&device.der, &key[at..at + 32], &ca.der, SERVER), None);
    for (certificate, key, ca, name, wanted) in [
        (
            &b"x"[..],
            key,
            &ca.der,
            SERVER,
            CredentialsError::Certificate,
        ),
        (
            &device.der,
            &key[1..],
            &ca.der,
            SERVER,
            CredentialsError::Key,
        ),
        (
            &device.der,
            &another.key,
            &ca.der,
            SERVER,
            CredentialsError::Mismatch,
        ),
        (&device.der, key, &no_ca, SERVER, CredentialsError::Ca),
        (&device.der, key, &ca.der, "no name", CredentialsError::Name),
    ] {
        assert_eq!(new(certificate, key, ca, name), Some(wanted), "{wanted}");
    }
}
