//! A server without a certificate: it ends its part of the handshake as one with a shared key would. embedded-tls accepts that.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::Poll;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes128Gcm, KeyInit};
use embedded_io::{ErrorKind, ErrorType};
use embedded_io_async::{Read, Write};
use framing_uplink::tls::{Credentials, Tls, TlsBuffers};
use framing_uplink::{Connect, Split};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use p256::ecdh::EphemeralSecret;
use p256::{EncodedPoint, PublicKey};
use sha2::{Digest, Sha256};

use crate::certificates::{Ca, SERVER, Wanted};
use crate::support::Time;
use crate::tls::{BUILT_S, Dice};

/// What the device has sent, and what the impostor answers.
#[derive(Default)]
struct Impostor {
    up: RefCell<Vec<u8>>,
    down: RefCell<Vec<u8>>,
    conduct: Conduct,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Conduct {
    /// It ends the handshake.
    #[default]
    Ends,
    /// It asks for the certificate of the device, and ends the handshake.
    Asks,
    /// It sends a protected record without any content.
    Empties,
}

impl Impostor {
    /// The ServerHello and the rest of the handshake, without a certificate.
    fn answer(&self, client_hello: &[u8]) -> Vec<u8> {
        let share = [0, 0x17, 0, 0x41];
        let at = client_hello.windows(4).position(|it| it == share);
        let point = &client_hello[at.expect("a share of P-256") + 4..][..65];
        let secret = EphemeralSecret::random(&mut NotRandom);
        let shared = secret.diffie_hellman(&PublicKey::from_sec1_bytes(point).unwrap());
        let own = EncodedPoint::from(secret.public_key());
        let mut hello = [&[3, 3][..], &[7; 32], &[0, 0x13, 1, 0, 0, 79]].concat();
        hello.extend([0, 0x2b, 0, 2, 3, 4, 0, 0x33, 0, 69, 0, 0x17, 0, 65]);
        hello.extend(own.as_bytes());
        let hello = message(2, &hello);

        let mut seen = Sha256::new_with_prefix(client_hello);
        seen.update(&hello);
        let (early, _) = Hkdf::<Sha256>::extract(None, &[0; 32]);
        let derived: [u8; 32] = expand(&early, "derived", &Sha256::digest([]));
        let (handshake, _) = Hkdf::<Sha256>::extract(Some(&derived), shared.raw_secret_bytes());
        let traffic: [u8; 32] = expand(&handshake, "s hs traffic", &seen.clone().finalize());

        let mut flight = message(8, &[0, 0]);
        if self.conduct == Conduct::Asks {
            // A CertificateRequest for ECDSA with P-256.
            flight.extend(message(13, &[0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]));
        }
        seen.update(&flight);
        let key: [u8; 32] = expand(&traffic, "finished", &[]);
        let mut proof = <Hmac<Sha256> as Mac>::new_from_slice(&key).unwrap();
        proof.update(&seen.finalize());
        flight.extend(message(20, &proof.finalize().into_bytes()));
        flight.push(22);
        if self.conduct == Conduct::Empties {
            flight.clear();
        }

        let (key, iv): ([u8; 16], [u8; 12]) =
            (expand(&traffic, "key", &[]), expand(&traffic, "iv", &[]));
        let header = [&[23, 3, 3][..], &((flight.len() + 16) as u16).to_be_bytes()].concat();
        let payload = Payload {
            msg: &flight,
            aad: &header,
        };
        let sealed = Aes128Gcm::new(&key.into()).encrypt(&iv.into(), payload);
        let plain = [&[22, 3, 3, 0, hello.len() as u8][..], &hello].concat();
        [plain, header, sealed.unwrap()].concat()
    }
}

/// A message of the handshake.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, body.len() as u8][..], body].concat()
}

/// HKDF-Expand-Label (RFC 8446, 7.1).
fn expand<const N: usize>(secret: &[u8], label: &str, context: &[u8]) -> [u8; N] {
    let mut info = vec![0, N as u8, 6 + label.len() as u8];
    info.extend([b"tls13 ", label.as_bytes()].concat());
    info.push(context.len() as u8);
    info.extend(context);
    let mut out = [0; N];
    let secret = Hkdf::<Sha256>::from_prk(secret).unwrap();
    secret.expand(&info, &mut out).unwrap();
    out
}

struct NotRandom;

impl rand_core::RngCore for NotRandom {
    fn next_u32(&mut self) -> u32 {
        0x0102_0304
    }

    fn next_u64(&mut self) -> u64 {
        0x0102_0304
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        to.fill(5);
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), rand_core::Error> {
        to.fill(5);
        Ok(())
    }
}

impl rand_core::CryptoRng for NotRandom {}

/// A connection to the impostor, and each direction of it.
struct Line<'a>(&'a Impostor);

impl ErrorType for Line<'_> {
    type Error = ErrorKind;
}

impl Read for Line<'_> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|_| {
            let mut down = self.0.down.borrow_mut();
            if down.is_empty() {
                return Poll::Pending;
            }
            let len = down.len().min(to.len());
            to[..len].copy_from_slice(&down[..len]);
            down.drain(..len);
            Poll::Ready(Ok(len))
        })
        .await
    }
}

impl Write for Line<'_> {
    async fn write(&mut self, from: &[u8]) -> Result<usize, ErrorKind> {
        let mut up = self.0.up.borrow_mut();
        if up.is_empty() {
            self.0.down.borrow_mut().extend(self.0.answer(&from[5..]));
        }
        up.extend(from);
        Ok(from.len())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl Connect for &Impostor {
    type Connection<'a>
        = Line<'a>
    where
        Self: 'a;

    async fn connect(&mut self) -> Result<Line<'_>, ErrorKind> {
        Ok(Line(self))
    }

    async fn close<'a>(_: &mut Line<'a>) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        Ok(())
    }
}

impl Split for &Impostor {
    type Error = ErrorKind;

    fn split<'s, 'a>(
        line: &'s mut Line<'a>,
    ) -> (impl Read<Error = ErrorKind>, impl Write<Error = ErrorKind>)
    where
        Self: 'a,
        'a: 's,
    {
        (Line(line.0), Line(line.0))
    }

    async fn end<'a>(_: &mut Line<'a>, _: bool)
    where
        Self: 'a,
    {
    }
}

#[test]
fn a_server_that_leaves_its_certificate_out_is_refused() {
    let ca = Ca::new();
    let device = ca.issue(&Wanted::DEVICE);
    for (conduct, kind, records) in [
        (Conduct::Ends, ErrorKind::PermissionDenied, 22 + 36),
        (Conduct::Asks, ErrorKind::PermissionDenied, 2 * 22 + 8 + 36),
        (Conduct::Empties, ErrorKind::InvalidData, 0),
    ] {
        let time = Time::default();
        let impostor = Impostor {
            conduct,
            ..Impostor::default()
        };
        let credentials =
            Credentials::new(&device.der, &device.key, &ca.der, SERVER, BUILT_S).unwrap();
        let mut buffers = TlsBuffers::<1_280, 640>::new();
        let mut tls = Tls::new(&impostor, &time, Dice(1), &credentials, &mut buffers);
        let outcome = time.run(tls.connect()).map(drop);
        assert_eq!(outcome, Err(kind), "{conduct:?}");
        // The device has ended its handshake at most: without its certificate.
        let up = impostor.up.borrow();
        let hello = 5 + usize::from(u16::from_be_bytes([up[3], up[4]]));
        assert_eq!(up.len() - hello, records, "{conduct:?}");
    }
}
