//! `blocksd ca device --csr` and `--format`: certificate requests of OpenSSL, and arrays that compilers read.

use std::fs;
use std::process::Command;

use blocksd_tests::authority::Authority;
use blocksd_tests::process::finish;
use blocksd_tests::skip::skipped;

const P256: [&str; 2] = ["-pkeyopt", "ec_paramgen_curve:P-256"];

/// Makes a request with OpenSSL, `NAME.csr`, and its key, `NAME.key`.
fn request(ca: &Authority, name: &str, more: &[&str]) {
    let [csr, key] = ["csr", "key"].map(|end| format!("{name}.{end}"));
    let args = ["req", "-new", "-nodes", "-keyout", &key, "-out", &csr];
    ca.openssl_text(&[&args[..], more].concat());
}

#[test]
fn a_request_gives_its_key_and_nothing_else() {
    let Some(ca) = Authority::new("a_request_gives_its_key_and_nothing_else") else {
        return;
    };
    let names = [
        "-subj",
        "/CN=admin/O=Evil",
        "-addext",
        "subjectAltName=DNS:admin,URI:urn:blocksd:admin",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=keyCertSign",
        "-addext",
        "extendedKeyUsage=serverAuth",
    ];
    request(
        &ca,
        "pem",
        &[&["-newkey", "ec"], &P256[..], &names].concat(),
    );
    request(
        &ca,
        "der",
        &[&["-newkey", "ec", "-outform", "DER"], &P256[..], &names].concat(),
    );
    request(
        &ca,
        "old",
        &[&["-newkey", "ec", "-newhdr"], &P256[..], &names].concat(),
    );
    request(
        &ca,
        "ed25519",
        &[&["-newkey", "ed25519"], &names[..]].concat(),
    );
    for id in ["pem", "der", "old", "ed25519"] {
        let csr = format!("{id}.csr");
        let ended = ca.run(&["device", "ca", id, "--csr", &csr]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(
            ended
                .stderr
                .contains("names and extensions of the request were ignored"),
            "{ended:?}"
        );
        assert!(!ca.file(&format!("device/{id}.key")).exists());
        let file = format!("ca/device/{id}.pem");
        let text = ca.openssl_text(&["x509", "-in", &file, "-noout", "-text"]);
        assert!(
            !text.contains("admin") && !text.contains("Evil") && text.contains("CA:FALSE"),
            "{text}"
        );
        assert!(
            text.contains(&format!("DNS:{id}")) && !text.contains("Server Auth"),
            "{text}"
        );
        assert_eq!(ca.verdict(&file, "sslclient"), Ok(()));
        let certified = ca.openssl_text(&["x509", "-in", &file, "-noout", "-pubkey"]);
        let key = format!("{id}.key");
        assert_eq!(
            certified,
            ca.openssl_text(&["pkey", "-in", &key, "-pubout"])
        );
        // It can be renewed without the key.
        ca.ok(&["renew", "ca", id]);
        assert_eq!(
            certified,
            ca.openssl_text(&["x509", "-in", &file, "-noout", "-pubkey"])
        );
        assert_eq!(ca.verdict(&file, "sslclient"), Ok(()));
    }
    // The printed digest is that of the public key.
    request(
        &ca,
        "digest",
        &[&["-newkey", "ec"], &P256[..], &names].concat(),
    );
    let ended = ca.run(&[
        "device",
        "ca",
        "digest",
        "--csr",
        "digest.csr",
        "--format",
        "rust",
    ]);
    ca.openssl_text(&[
        "pkey",
        "-in",
        "digest.key",
        "-pubout",
        "-outform",
        "DER",
        "-out",
        "digest.der",
    ]);
    let digest = ca.openssl_text(&["dgst", "-sha256", "-r", "digest.der"]);
    assert!(
        ended.stderr.contains(digest.split(' ').next().unwrap()),
        "{ended:?}"
    );
    let arrays = fs::read_to_string(ca.file("device/digest.rs")).unwrap();
    assert!(
        arrays.contains("DEVICE_CERTIFICATE") && !arrays.contains("DEVICE_KEY"),
        "{arrays}"
    );
}

#[test]
fn a_request_that_proves_nothing_is_refused() {
    let Some(ca) = Authority::new("a_request_that_proves_nothing_is_refused") else {
        return;
    };
    let subject = ["-subj", "/CN=x"];
    request(
        &ca,
        "rsa",
        &[&["-newkey", "rsa:2048"], &subject[..]].concat(),
    );
    let p384 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    request(&ca, "p384", &[&p384[..], &subject].concat());
    let der = ["-newkey", "ec", "-outform", "DER"];
    request(&ca, "good", &[&der[..], &P256, &subject].concat());
    let good = fs::read(ca.place().join("good.csr")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(ca.place().join(name), bytes).unwrap();
    // Another key, with the signature of the first.
    let mut other = good.clone();
    let at = other.windows(2).position(|it| it == [0, 4]).unwrap() + 10;
    other[at] ^= 1;
    write("other.csr", &other);
    let mut signature = good.clone();
    *signature.last_mut().unwrap() ^= 1;
    write("signature.csr", &signature);
    write("longer.csr", &[&good[..], b"x"].concat());
    write("cut.csr", &good[..good.len() - 1]);
    write("empty.csr", b"");
    write("long.csr", &vec![b'x'; (64 << 10) + 1]);
    fs::copy(ca.file("ca.pem"), ca.place().join("certificate.csr")).unwrap();
    for (file, says) in [
        ("rsa", "the key is not of P-256 or Ed25519"),
        ("p384", "the key is not of P-256 or Ed25519"),
        ("other", "not signed with its own key"),
        ("signature", "not signed with its own key"),
        ("longer", "bytes follow the certificate request"),
        ("cut", "not a certificate request"),
        ("empty", "contains no certificate request in PEM"),
        ("certificate", "contains no certificate request in PEM"),
        ("long", "longer than 65536 bytes"),
        ("missing", "cannot read missing.csr: No such file"),
    ] {
        let csr = format!("{file}.csr");
        ca.refused(&["device", "ca", "x", "--csr", &csr], says);
    }
    assert_eq!(ca.list().len(), 0);
    // Whatever byte is wrong: the request is refused, or it is the same key that has signed it, since the parser is lenient
    // with the tag of an algorithm.
    let ended = ca.run(&["device", "ca", "good", "--csr", "good.csr"]);
    let mut accepted = 0;
    for at in 0..good.len() {
        let mut wrong = good.clone();
        wrong[at] ^= 0x41;
        write("wrong.csr", &wrong);
        let id = format!("x-{at}");
        let altered = ca.run(&["device", "ca", &id, "--csr", "wrong.csr"]);
        match altered.code {
            Some(0) => {
                assert_eq!(altered.stderr, ended.stderr, "byte {at}");
                accepted += 1;
            }
            _ => altered.assert_refused(2, "wrong.csr"),
        }
    }
    assert!(accepted <= 1, "{accepted} altered requests were accepted");
}

/// The bytes that a program has printed in hexadecimal digits, a line for each array.
fn arrays(printed: &str) -> Vec<Vec<u8>> {
    let bytes = |line: &str| -> Vec<u8> {
        let digits = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        (0..line.len()).step_by(2).map(digits).collect()
    };
    printed.lines().map(bytes).collect()
}

/// The authority, the certificate, and the key of the device `a:b` as OpenSSL reads them.
fn expected(ca: &Authority) -> Vec<Vec<u8>> {
    let der = |file: &str| {
        let args = ["x509", "-in", file, "-outform", "DER"];
        finish(ca.openssl_command(&args), b"").stdout
    };
    let key = [
        "pkcs8",
        "-topk8",
        "-nocrypt",
        "-in",
        "ca/device/a%3Ab.key",
        "-outform",
        "DER",
    ];
    let key = finish(ca.openssl_command(&key), b"").stdout;
    let text = ca.openssl_text(&["pkey", "-in", "ca/device/a%3Ab.key", "-noout", "-text"]);
    let scalar = text
        .split("priv:")
        .nth(1)
        .unwrap()
        .split("pub:")
        .next()
        .unwrap();
    let scalar = scalar.split([':', '\n', ' ']).filter(|it| !it.is_empty());
    let scalar: Vec<u8> = scalar
        .map(|it| u8::from_str_radix(it, 16).unwrap())
        .collect();
    let mut scalar = scalar;
    // OpenSSL prints a leading zero if the first bit is set, and omits leading zeros.
    if scalar.len() == 33 {
        scalar.remove(0);
    }
    while scalar.len() < 32 {
        scalar.insert(0, 0);
    }
    vec![der("ca/ca.pem"), der("ca/device/a%3Ab.pem"), key, scalar]
}

#[test]
fn rustc_reads_the_arrays() {
    let name = "rustc_reads_the_arrays";
    let Some(ca) = Authority::new(name) else {
        return;
    };
    ca.ok(&["device", "ca", "a:b", "--format", "rust"]);
    // Written again with the new certificate.
    ca.ok(&["renew", "ca", "a:b"]);
    let main = format!(
        "#![deny(warnings)]\n#[path = {:?}]\nmod identity;\nfn main() {{\n\
         assert_eq!(identity::DEVICE_ID, \"a:b\");\nassert!(1_700_000_000 < identity::MADE_AT_S);\n\
         let key: &'static [u8; 32] = &identity::DEVICE_KEY;\n\
         for array in [&identity::CA_CERTIFICATE[..], &identity::DEVICE_CERTIFICATE, &identity::DEVICE_KEY_PKCS8, key] {{\n\
         for byte in array {{ print!(\"{{byte:02x}}\"); }}\nprintln!();\n}}\n}}\n",
        ca.file("device/a%3Ab.rs")
    );
    fs::write(ca.place().join("main.rs"), main).unwrap();
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--edition", "2024", "main.rs"])
        .current_dir(ca.place());
    let Ok(ended) = rustc.output() else {
        return skipped(name, "there is no compiler `rustc`");
    };
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let ended = finish(Command::new(ca.place().join("main")), b"");
    assert_eq!(arrays(&ended.stdout_text()), expected(&ca));
}

#[test]
fn cc_reads_the_arrays() {
    let name = "cc_reads_the_arrays";
    let Some(ca) = Authority::new(name) else {
        return;
    };
    ca.ok(&["device", "ca", "a:b", "--format", "c"]);
    let main = "#include <stdio.h>\n#include <string.h>\n#include IDENTITY\n#include IDENTITY\n\
         static void print(const unsigned char *bytes, size_t len) {\n\
         for (size_t at = 0; at < len; at++) printf(\"%02x\", bytes[at]);\nputs(\"\"); }\n\
         int main(void) {\nif (strcmp(device_id, \"a:b\") != 0 || made_at_s < 1700000000) return 1;\n\
         print(ca_certificate, sizeof ca_certificate);\nprint(device_certificate, sizeof device_certificate);\n\
         print(device_key_pkcs8, sizeof device_key_pkcs8);\nprint(device_key, sizeof device_key);\nreturn 0;\n}\n";
    fs::write(ca.place().join("main.c"), main).unwrap();
    let mut cc = Command::new("cc");
    cc.args([
        "-std=c99",
        "-pedantic",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        "main",
        "main.c",
    ]);
    cc.arg("-DIDENTITY=\"ca/device/a%3Ab.h\"")
        .current_dir(ca.place());
    let Ok(ended) = cc.output() else {
        return skipped(name, "there is no C compiler `cc`");
    };
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let ended = finish(Command::new(ca.place().join("main")), b"");
    assert_eq!(ended.code, Some(0));
    assert_eq!(arrays(&ended.stdout_text()), expected(&ca));
}

#[test]
fn der_files_are_those_of_the_pem_files() {
    let Some(ca) = Authority::new("der_files_are_those_of_the_pem_files") else {
        return;
    };
    ca.ok(&["device", "ca", "a:b", "--format", "der"]);
    let files =
        ["a%3Ab.der", "a%3Ab.pk8"].map(|file| fs::read(ca.file("device").join(file)).unwrap());
    assert_eq!(files[..], expected(&ca)[1..3]);
}
