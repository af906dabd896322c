//! TLS for the session, with the credentials that `build.rs` embeds. Start with [`over`].

use cortex_m_semihosting::{nr, syscall};
use embedded_io::ErrorKind;
use framing_uplink::embassy::{EmbassyClock, Tcp};
use framing_uplink::tls::{CertificateDer, Credentials, Entropy, Tls, TlsBuffers};
use sha2::{Digest, Sha256};
use static_cell::{ConstStaticCell, StaticCell};

use crate::arguments;

/// Longest record of the daemon, with its header: its handshake takes about 400 bytes and its certificate.
const READ_LEN: usize = 1536;
/// Longest record of the board: its certificate has at most 40 bytes less.
const WRITE_LEN: usize = 768;

/// `DEVICE_CERTIFICATE`, `DEVICE_KEY`, `CA_CERTIFICATE`, `SERVER_NAME` and `BUILT_S`.
mod built {
    include!(concat!(env!("OUT_DIR"), "/tls.rs"));
}

/// TLS over this transport.
pub fn over(server: Tcp<'static>) -> Tls<'static, Tcp<'static>, EmbassyClock, EmulatorEntropy> {
    static CA: CertificateDer<'static> = CertificateDer::from_slice(&built::CA_CERTIFICATE);
    static CREDENTIALS: StaticCell<Credentials<'static>> = StaticCell::new();
    static BUFFERS: ConstStaticCell<TlsBuffers<READ_LEN, WRITE_LEN>> =
        ConstStaticCell::new(TlsBuffers::new());

    let credentials = Credentials::new(
        &built::DEVICE_CERTIFICATE,
        &built::DEVICE_KEY,
        &CA,
        built::SERVER_NAME,
        built::BUILT_S,
    );
    let credentials = match credentials {
        Ok(credentials) => CREDENTIALS.init(credentials),
        Err(error) => panic!("{error}"),
    };
    Tls::new(
        server,
        EmbassyClock,
        EmulatorEntropy([0; 32]),
        credentials,
        BUFFERS.take(),
    )
}

/// **Not random, and for the emulator only.** QEMU's `mps2-an386` has no random generator. This hashes its clocks, which
/// somebody who watches the network can guess: the connections of the emulated board can be read and forged. A real board
/// takes the bytes from the random generator of its chip.
pub struct EmulatorEntropy([u8; 32]);

impl Entropy for EmulatorEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ErrorKind> {
        for part in bytes.chunks_mut(32) {
            let mut hash = Sha256::new();
            hash.update(self.0);
            hash.update(arguments::seed().to_le_bytes());
            // SAFETY: SYS_CLOCK and SYS_TIME take no argument, and return the clocks of the machine that emulates.
            let clocks = unsafe { [syscall(nr::CLOCK, &0_u32), syscall(nr::TIME, &0_u32)] };
            for clock in clocks {
                hash.update(clock.to_le_bytes());
            }
            self.0 = hash.finalize().into();
            part.iter_mut()
                .zip(self.0)
                .for_each(|(place, byte)| *place = byte);
        }
        Ok(())
    }
}
