//! The decoders of one sink, one for each connection: [`Decoders`].

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use blocksd_engine::event::{ConnectionInfo, Encoding};

use crate::payload::{Decoder, Decoding};

/// Least number of decoders at which those of closed connections are removed. Each may keep the formats of a firmware
/// in memory.
const SWEEP_AT_MIN: usize = 16;

/// The decoders of one sink. A connection has its own decoder only if its encoding has a state, such as defmt's build
/// id.
#[derive(Debug)]
pub struct Decoders {
    stateless: [Decoder; 6],
    stateful: HashMap<usize, StatefulDecoder>,
    sweep_at: usize,
}

#[derive(Debug)]
struct StatefulDecoder {
    /// Keeps the address, which is the key, from being used again.
    connection: Weak<ConnectionInfo>,
    decoder: Decoder,
}

impl Decoders {
    /// The decoder of a connection.
    pub fn of(&mut self, connection: &Arc<ConnectionInfo>) -> &Decoder {
        let decoding = Decoding::of(&connection.encoding);
        if let Decoding::Defmt(_) = decoding {
            return self.stateful(connection, decoding);
        }
        let [raw, text, json, cbor, msgpack, kv] = &self.stateless;
        match decoding {
            Decoding::Text => text,
            Decoding::Json => json,
            Decoding::Cbor => cbor,
            Decoding::MsgPack => msgpack,
            Decoding::Kv => kv,
            Decoding::Raw | Decoding::Defmt(_) => raw,
        }
    }

    fn stateful(&mut self, connection: &Arc<ConnectionInfo>, decoding: Decoding) -> &Decoder {
        if self.sweep_at <= self.stateful.len() {
            let is_open = |entry: &StatefulDecoder| entry.connection.strong_count() != 0;
            self.stateful.retain(|_, entry| is_open(entry));
            self.sweep_at = SWEEP_AT_MIN.max(2 * self.stateful.len());
        }
        let key = Arc::as_ptr(connection).addr();
        let entry = self.stateful.entry(key).or_insert_with(|| StatefulDecoder {
            connection: Arc::downgrade(connection),
            decoder: Decoder::new(decoding),
        });
        &entry.decoder
    }
}

impl Default for Decoders {
    fn default() -> Self {
        let stateless = [
            Decoding::Raw,
            Decoding::Text,
            Decoding::Json,
            Decoding::Cbor,
            Decoding::MsgPack,
            Decoding::Kv,
        ];
        Self {
            stateless: stateless.map(Decoder::new),
            stateful: HashMap::new(),
            sweep_at: SWEEP_AT_MIN,
        }
    }
}

impl Decoding {
    /// The decoding of an encoding; raw if it is not one of these.
    #[must_use]
    pub fn of(encoding: &Encoding) -> Self {
        match encoding.name {
            "defmt" => encoding.schema().map_or(Self::Raw, Self::Defmt),
            name => Self::of_name(name).unwrap_or_default(),
        }
    }
}

impl From<Decoding> for Encoding {
    fn from(decoding: Decoding) -> Self {
        let name = decoding.as_str();
        match decoding {
            Decoding::Defmt(formats) => Self::with_schema(name, formats),
            _ => Self::new(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use framing_core::{AnyFraming, Blocks};

    use super::*;
    use crate::payload::Defmt;

    fn connection(encoding: &Encoding) -> Arc<ConnectionInfo> {
        Arc::new(ConnectionInfo {
            conn: 1,
            device: "d".into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: encoding.clone(),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        })
    }

    #[test]
    fn a_decoding_comes_back_from_its_encoding() {
        let defmt = Decoding::Defmt(Arc::new(Defmt::without_formats()));
        let plain = Decoders::default()
            .stateless
            .map(|it| it.decoding().clone());
        for decoding in plain.into_iter().chain([defmt]) {
            let name = decoding.as_str();
            let encoding = Encoding::from(decoding);
            assert_eq!(
                (encoding.name, Decoding::of(&encoding).as_str()),
                (name, name)
            );
        }
        assert_eq!(Decoding::of(&Encoding::new("other")).as_str(), "raw");
        // A name alone is not enough if formats are needed.
        assert_eq!(Decoding::of(&Encoding::new("defmt")).as_str(), "raw");
    }

    #[test]
    fn decoders_of_closed_connections_are_removed() {
        let encoding = Decoding::Defmt(Arc::new(Defmt::without_formats())).into();
        let mut decoders = Decoders::default();
        let open: Vec<_> = (0..10).map(|_| connection(&encoding)).collect();
        let own: Vec<_> = open
            .iter()
            .map(|it| std::ptr::from_ref(decoders.of(it)).addr())
            .collect();
        assert_eq!(own.len(), 10);
        for _ in 0..10_000 {
            decoders.of(&connection(&encoding));
        }
        assert!(
            decoders.stateful.len() <= SWEEP_AT_MIN,
            "{}",
            decoders.stateful.len()
        );
        for connection in &open {
            let key = Arc::as_ptr(connection).addr();
            assert!(decoders.stateful.contains_key(&key), "it is open");
        }
        // Connections without a state have no decoder of their own.
        decoders.of(&connection(&Encoding::new("cbor")));
        assert!(decoders.stateful.len() <= SWEEP_AT_MIN);
    }
}
