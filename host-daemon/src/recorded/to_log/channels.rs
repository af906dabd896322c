//! The channels of a recording: one for the messages of each device, and one for notes. Start with [`messages_channel`].

use std::collections::BTreeMap;

use blocksd_engine::event::ConnectionInfo;
use blocksd_recording::topic::{DEVICE, EVENTS_TOPIC, Kind};
use blocksd_recording::{ChannelSpec, SchemaSpec};

use crate::recorded::journal::{FIRST_KEY, SESSION_KEY};
use crate::recorded::note::{VERSION, VERSION_KEY};
use crate::recorded::schema::Schemas;

/// The messages of [`EVENTS_TOPIC`], as a JSON schema.
const EVENTS_SCHEMA: &str = r#"{"type":"object","properties":{"event":{"type":"string"},"conn":{"type":"integer"},"device":{"type":"string"},"time":{"type":"string","format":"date-time"}},"required":["event","time"]}"#;

/// The channel of the messages of a device that were received whole.
pub(super) fn messages_channel(
    source: &ConnectionInfo,
    schemas: &Schemas,
    first: Option<u64>,
) -> ChannelSpec {
    let mut spec = ChannelSpec {
        schema: schemas.of(source),
        ..device_channel(source, Kind::Blocks)
    };
    if let (Some(session), Some(first)) = (&source.session, first) {
        let session = format!("{:016x}", session.number());
        spec.metadata.insert(SESSION_KEY.to_owned(), session);
        spec.metadata
            .insert(FIRST_KEY.to_owned(), first.to_string());
    }
    spec
}

/// The channel of a device. Connections with the same properties share it, because each message has its
/// [origin](MessageOrigin).
pub(super) fn device_channel(source: &ConnectionInfo, kind: Kind) -> ChannelSpec {
    let decode = source.encoding.name;
    let (name, encoding) = match (kind, decode) {
        (Kind::Pieces, _) => ("pieces", "raw"),
        (_, "cbor" | "json" | "msgpack") => ("blocks", decode),
        _ => ("blocks", "raw"),
    };
    let mut metadata = BTreeMap::from([
        ("device".to_owned(), source.device.to_string()),
        ("framing".to_owned(), source.framing.to_string()),
        ("decode".to_owned(), decode.to_owned()),
    ]);
    if let Some(certificate) = &source.certificate {
        metadata.extend([
            ("identity".to_owned(), certificate.name.to_string()),
            ("issuer".to_owned(), certificate.issuer.to_string()),
            ("fingerprint".to_owned(), certificate.fingerprint_hex()),
        ]);
    }
    ChannelSpec {
        topic: topic(&source.device, name),
        encoding: encoding.to_owned(),
        schema: None,
        metadata,
        is_counted: kind == Kind::Blocks,
    }
}

/// The topic of the messages of a device that were received whole.
pub(in crate::recorded) fn messages_topic(device: &str) -> String {
    topic(device, "blocks")
}

fn topic(device: &str, name: &str) -> String {
    format!("{DEVICE}{device}/{name}")
}

/// The channel of notes.
pub(super) fn events_channel() -> ChannelSpec {
    ChannelSpec {
        topic: EVENTS_TOPIC.to_owned(),
        encoding: "json".to_owned(),
        schema: Some(SchemaSpec {
            name: "blocksd.Event".to_owned(),
            encoding: "jsonschema".to_owned(),
            data: EVENTS_SCHEMA.into(),
        }),
        metadata: BTreeMap::from([(VERSION_KEY.to_owned(), VERSION.to_owned())]),
        is_counted: false,
    }
}

#[cfg(test)]
mod tests {
    use blocksd_engine::admission::identity::DeviceBy;
    use blocksd_engine::event::Peer;

    use super::*;

    #[test]
    fn one_link_local_address_on_two_interfaces_has_two_topics() {
        let topics = [3, 4].map(|scope| {
            let peer = Peer::Network(format!("[fe80::2%{scope}]:5000").parse().unwrap());
            messages_topic(&DeviceBy::Ip.name(&peer, &"[::]:1060".into(), 1))
        });
        let expected = [3, 4].map(|scope| format!("/device/fe80::2%{scope}/blocks"));
        assert_eq!(topics, expected);
    }
}
