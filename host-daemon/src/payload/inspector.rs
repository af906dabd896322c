//! Finds undecodable messages and reports each once. Start with [`Inspector`] and [`UndecodableReporter`].
//!
//! One sink of a daemon has a reporter: the recording if there is one, else the output, else the sink `check`. So a
//! message is counted, logged and recorded once, whatever is shown.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use blocksd_engine::counters::Counters;
use blocksd_engine::event::ConnectionInfo;
use blocksd_engine::peer_log::log_fault_of;
use blocksd_engine::reason::FaultKind;

use crate::payload::{DecodeError, Decoder, Decoders, Decoding, Meaning, Undecodable, fails_as};

/// Decodes messages only to find those that are undecodable.
#[derive(Debug)]
pub struct Inspector {
    decoders: Decoders,
    reporter: UndecodableReporter,
}

/// Gets undecodable messages one by one. It must not wait.
pub trait UndecodableObserver: fmt::Debug + Send + Sync {
    /// Takes message number `seq` of a connection.
    fn undecodable(&self, source: &Arc<ConnectionInfo>, seq: u64, undecodable: &Undecodable);
}

/// Undecodable messages of a connection that an observer gets. Of the later ones it gets those whose number is a power of two.
const OBSERVED: u32 = 512;

/// Counts and logs undecodable messages.
#[derive(Debug)]
pub struct UndecodableReporter {
    counters: Arc<Counters>,
    observer: Option<Arc<dyn UndecodableObserver>>,
    /// Undecodable messages of each open connection that has any.
    counts: HashMap<u64, u32>,
    /// The peer of each open connection whose device has named itself: limits are those of the peer.
    peers: HashMap<u64, Arc<str>>,
}

impl Inspector {
    /// An inspector that reports to `reporter`.
    #[must_use]
    pub fn new(reporter: UndecodableReporter) -> Self {
        Self {
            decoders: Decoders::default(),
            reporter,
        }
    }

    /// Decodes message number `seq` of a connection, and reports it if it is undecodable. Call it once for each message,
    /// in order.
    pub fn inspect(
        &mut self,
        source: &Arc<ConnectionInfo>,
        seq: u64,
        bytes: &[u8],
    ) -> Option<Undecodable> {
        if source.encoding.is_raw() {
            return None;
        }
        let undecodable = self.decoders.of(source).check(bytes).err()?;
        self.reporter.report(source, seq, &undecodable);
        // The cause of earlier messages has its fault.
        Some(undecodable).filter(|it| !it.is_repeated)
    }

    /// Takes the session of a connection, whose device was `former` before it named itself.
    pub fn session(&mut self, source: &ConnectionInfo, former: &Arc<str>) {
        if !source.encoding.is_raw() {
            self.reporter.peers.insert(source.conn, Arc::clone(former));
        }
    }

    /// Takes the close of a connection.
    pub fn closed(&mut self, conn: u64) {
        self.reporter.closed(conn);
    }
}

impl UndecodableReporter {
    /// A reporter that counts in `counters`.
    #[must_use]
    pub fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            observer: None,
            counts: HashMap::new(),
            peers: HashMap::new(),
        }
    }

    /// Passes the messages to an observer as well.
    #[must_use]
    pub fn observed_by(self, observer: Option<Arc<dyn UndecodableObserver>>) -> Self {
        Self { observer, ..self }
    }

    /// Counts an undecodable message, and logs it like other faults.
    pub fn report(&mut self, source: &Arc<ConnectionInfo>, seq: u64, undecodable: &Undecodable) {
        if undecodable.is_repeated {
            return self.counters.undecoded();
        }
        self.counters.fault(FaultKind::Undecodable);
        if let Some(stats) = &source.stats {
            stats.fault(FaultKind::Undecodable);
        }
        let count = self.counts.entry(source.conn).or_default();
        *count = count.saturating_add(1);
        if let Some(observer) = &self.observer
            && (*count <= OBSERVED || count.is_power_of_two())
        {
            observer.undecodable(source, seq, undecodable);
        }
        let Undecodable {
            as_what, reason, ..
        } = undecodable;
        let fails = fails_as(as_what);
        let fault = format_args!("message {seq} {fails}{as_what}: {reason}");
        let peer = self.peers.get(&source.conn).unwrap_or(&source.device);
        log_fault_of(*count, source, peer, fault);
    }

    /// Takes the close of a connection.
    pub fn closed(&mut self, conn: u64) {
        self.counts.remove(&conn);
        self.peers.remove(&conn);
    }
}

impl Decoder {
    /// Decodes the next message of the connection, and passes it to `write`. A panic of a library that parses
    /// payloads costs only this message.
    ///
    /// # Errors
    /// If the message cannot be decoded, or if `write` fails.
    pub fn write(
        &self,
        bytes: &[u8],
        write: impl FnOnce(&Meaning<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Undecodable> {
        let decode = || {
            let meaning = self.read(bytes)?;
            let written = write(&meaning);
            written.map_err(|error| self.decoding().undecodable(error))
        };
        catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| {
            let failed = DecodeError::Invalid("its decoder failed".to_owned());
            Err(self.decoding().undecodable(failed))
        })
    }

    /// Checks whether the next message of the connection can be decoded, and shown within its bound.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Undecodable> {
        if let Decoding::Raw = self.decoding() {
            return Ok(());
        }
        self.write(bytes, |meaning| {
            let left = meaning.text_max(bytes.len());
            meaning.write_members(&mut Measure { left })
        })
    }
}

/// Discards text up to a bound.
struct Measure {
    left: usize,
}

impl fmt::Write for Measure {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.left = self.left.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use blocksd_engine::event::Encoding;
    use framing_core::{AnyFraming, Blocks};

    use super::*;

    fn connection(conn: u64, decoding: Decoding) -> Arc<ConnectionInfo> {
        Arc::new(ConnectionInfo {
            conn,
            device: "d".into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: Encoding::from(decoding),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        })
    }

    #[test]
    fn each_undecodable_message_is_counted_and_none_of_raw_bytes() {
        let counters = Arc::<Counters>::default();
        let mut inspector = Inspector::new(UndecodableReporter::new(Arc::clone(&counters)));
        let json = connection(1, Decoding::Json);
        let raw = connection(2, Decoding::Raw);
        for seq in 0..10 {
            assert!(inspector.inspect(&json, seq, b"nojson").is_some());
            assert!(inspector.inspect(&json, seq, b"[1]").is_none());
            assert!(inspector.inspect(&raw, seq, b"nojson").is_none());
        }
        assert_eq!(counters.totals().faults(), 10);
        assert_eq!(inspector.reporter.counts[&1], 10);
        inspector.closed(1);
        assert!(inspector.reporter.counts.is_empty());
    }

    #[test]
    fn a_decoder_that_panics_costs_only_its_message() {
        let decoder = Decoder::new(Decoding::Cbor);
        let failed = decoder.write(b"\x01", |_| panic!("as a library might"));
        let reason = failed.map_err(|it| it.reason);
        assert_eq!(reason, Err("its decoder failed".to_owned()));
    }

    #[test]
    fn a_text_beyond_its_bound_is_found() {
        let mut measure = Measure { left: 3 };
        assert!(measure.write_str("ab").is_ok());
        assert!(measure.write_str("cd").is_err());
        assert!(measure.write_str("c").is_ok());
    }
}
