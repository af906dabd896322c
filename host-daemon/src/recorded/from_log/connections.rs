//! The connection of each message: [`Connections`].
//!
//! A message with an origin names its connection. Recordings of earlier versions have no origins: there, a message
//! belongs to the only open connection of its device, or its connection is not known.

use std::collections::HashMap;
use std::sync::Arc;

use framing_core::{AnyFraming, Blocks};

use crate::payload::Decoding;
use crate::recorded::journal::{FIRST_KEY, numbering};
use blocksd_engine::event::ConnectionInfo;
use blocksd_engine::session::Session;
use blocksd_recording::topic::Kind;
use blocksd_recording::{ChannelInfo, Message, MessageOrigin};

/// Least number of new connections after which those that are no longer used are removed.
const SWEEP_AFTER: usize = 1024;
/// Connections, and devices, that are remembered. All are forgotten if there are more: no daemon has so many open.
pub(super) const CONNECTIONS_MAX: usize = 1 << 18;
/// Longest name of a device that is remembered, in bytes.
const DEVICE_MAX: usize = 1024;

/// The connections of a recording.
#[derive(Debug, Default)]
pub(super) struct Connections {
    decode: Option<Decoding>,
    /// The device of each connection whose open was read, and whose close was not.
    opened: HashMap<u64, Arc<str>>,
    /// Connections of messages with an origin.
    known: HashMap<u64, KnownConnection>,
    sweep_at: usize,
    sweeps: u64,
    /// Devices of messages without an origin.
    devices: HashMap<Arc<str>, DeviceConnections>,
    lacks_formats: LacksFormats,
}

/// Whether frames cannot be decoded without a file that the caller has not named.
#[derive(Debug, Default)]
enum LacksFormats {
    #[default]
    No,
    /// Of this device. This is not reported yet.
    Of(Arc<str>),
    Reported,
}

/// A connection of messages with an origin.
#[derive(Debug)]
struct KnownConnection {
    /// The channel of its last message.
    channel: Arc<ChannelInfo>,
    source: Arc<ConnectionInfo>,
    /// Number of its last message.
    seq: u64,
    /// Number of sweeps at its last message.
    used: u64,
}

/// What is known of the connections of a device whose messages have no origin.
#[derive(Debug, Default)]
struct DeviceConnections {
    /// Numbers of its open connections.
    conns: Vec<u64>,
    /// It has other connections, whose open was not read.
    has_others: bool,
    /// The connection of its messages, with the channel that distinguishes it from others in a file.
    source: Option<(Arc<ChannelInfo>, Arc<ConnectionInfo>)>,
}

impl Connections {
    /// Payloads are decoded as `decode`; if that is `None`, as they were received.
    pub(super) fn new(decode: Option<Decoding>) -> Self {
        Self {
            decode,
            ..Self::default()
        }
    }

    /// The connection of the next message.
    pub(super) fn of(&mut self, message: &Message<'_>) -> Arc<ConnectionInfo> {
        match message.origin {
            Some(origin) => self.of_origin(message.channel, origin),
            None => self.of_device(message),
        }
    }

    /// Takes the open of a connection. An earlier connection with this number has ended: the daemon has restarted.
    pub(super) fn open(&mut self, conn: u64, device: &str) {
        if DEVICE_MAX < device.len() {
            return;
        }
        if CONNECTIONS_MAX <= self.opened.len() {
            self.restart();
        }
        let device: Arc<str> = device.into();
        if let Some(earlier) = self.opened.insert(conn, Arc::clone(&device)) {
            self.known.remove(&conn);
            self.end_of_device(conn, &earlier);
        }
        self.devices.entry(device).or_default().open(conn);
    }

    /// Takes the close of a connection.
    pub(super) fn close(&mut self, conn: u64, device: &str) {
        self.opened.remove(&conn);
        self.known.remove(&conn);
        self.end_of_device(conn, device);
    }

    /// Takes the start of a daemon: all earlier connections have ended.
    pub(super) fn restart(&mut self) {
        self.opened.clear();
        self.known.clear();
        self.devices.clear();
    }

    /// Number of connections and devices that are remembered.
    pub(super) fn len(&self) -> usize {
        self.opened.len() + self.known.len() + self.devices.len()
    }

    /// Whether the messages of a connection are decoded while they are read.
    pub(super) fn is_decoded(&self, conn: u64) -> bool {
        let known = self.known.get(&conn);
        known.is_some_and(|known| !known.source.encoding.is_raw())
    }

    /// Returns the first device whose frames need a file of formats that is not given, once.
    pub(super) fn lacks_formats(&mut self) -> Option<Arc<str>> {
        if !matches!(self.lacks_formats, LacksFormats::Of(_)) {
            return None;
        }
        match std::mem::replace(&mut self.lacks_formats, LacksFormats::Reported) {
            LacksFormats::Of(device) => Some(device),
            _ => None,
        }
    }

    fn end_of_device(&mut self, conn: u64, device: &str) {
        if let Some(of_device) = self.devices.get_mut(device)
            && of_device.close(conn)
        {
            self.devices.remove(device);
        }
    }

    fn of_origin(
        &mut self,
        channel: &Arc<ChannelInfo>,
        origin: MessageOrigin,
    ) -> Arc<ConnectionInfo> {
        let MessageOrigin {
            connection, seq, ..
        } = origin;
        if let Some(known) = self.known.get_mut(&connection) {
            // The pieces of a message share its number. Otherwise numbers grow, unless another run of the daemon has
            // used the number of the connection.
            let grows = match channel.kind {
                Kind::Pieces => known.seq <= seq,
                _ => known.seq < seq,
            };
            let is_same = is_same(&known.channel, channel);
            if grows && is_same {
                known.channel = Arc::clone(channel);
                (known.seq, known.used) = (seq, self.sweeps);
                return Arc::clone(&known.source);
            }
        }
        self.sweep();
        let source = self.info(channel, connection, 0);
        let known = KnownConnection {
            channel: Arc::clone(channel),
            source: Arc::clone(&source),
            seq,
            used: self.sweeps,
        };
        self.known.insert(connection, known);
        source
    }

    /// Removes connections that are not known to be open and had no message since the last sweep: their close is not
    /// recorded.
    fn sweep(&mut self) {
        if self.known.len() < self.sweep_at {
            return;
        }
        let (opened, sweeps) = (&self.opened, self.sweeps);
        self.known
            .retain(|conn, known| sweeps <= known.used || opened.contains_key(conn));
        self.sweeps += 1;
        self.sweep_at = self.known.len() + self.opened.len().max(SWEEP_AFTER);
    }

    fn of_device(&mut self, message: &Message<'_>) -> Arc<ConnectionInfo> {
        let channel = message.channel;
        if CONNECTIONS_MAX <= self.devices.len() {
            self.devices.clear();
        }
        let device = self.devices.entry(Arc::clone(&channel.device)).or_default();
        device.has_others |= device.conns.is_empty();
        if let Some((of, source)) = &device.source
            && is_same(of, channel)
        {
            return Arc::clone(source);
        }
        // If the open of the connection was read, this is its first message. Otherwise that is known of number 0 only.
        let conn = device.conn();
        let first = match conn {
            0 => 0,
            _ => message.sequence.into(),
        };
        let source = self.info(channel, conn, first);
        let device = self.devices.entry(Arc::clone(&channel.device)).or_default();
        device.source = Some((Arc::clone(channel), Arc::clone(&source)));
        source
    }

    /// A connection with the properties of a channel.
    fn info(&mut self, channel: &ChannelInfo, conn: u64, first_seq: u64) -> Arc<ConnectionInfo> {
        let framing = metadata(channel, "framing").and_then(|spec| spec.parse().ok());
        let recorded = metadata(channel, "decode").and_then(Decoding::of_name);
        let needs_formats = metadata(channel, "decode").is_some_and(|it| it.starts_with("defmt"));
        if needs_formats && self.decode.is_none() && matches!(self.lacks_formats, LacksFormats::No)
        {
            self.lacks_formats = LacksFormats::Of(Arc::clone(&channel.device));
        }
        let decoding = self.decode.clone().or(recorded).unwrap_or_default();
        Arc::new(ConnectionInfo {
            conn,
            device: Arc::clone(&channel.device),
            framing: framing.unwrap_or(AnyFraming::Blocks(Blocks)),
            encoding: decoding.into(),
            first_seq,
            session: session(channel),
            certificate: None,
            stats: None,
        })
    }
}

impl DeviceConnections {
    fn open(&mut self, conn: u64) {
        self.conns.push(conn);
        self.source = None;
    }

    /// Returns whether the device has no open connection left.
    fn close(&mut self, conn: u64) -> bool {
        self.conns.retain(|open| *open != conn);
        self.source = None;
        self.conns.is_empty()
    }

    /// Number of the connection of a message, or 0 if it is ambiguous, since the recording has only the device.
    fn conn(&self) -> u64 {
        match self.conns.as_slice() {
            [conn] if !self.has_others => *conn,
            _ => 0,
        }
    }
}

/// Whether two channels have the same properties. The first number of a session in a file is not one of them.
fn is_same(one: &Arc<ChannelInfo>, other: &Arc<ChannelInfo>) -> bool {
    let (pairs, others) = (&one.record.metadata, &other.record.metadata);
    let is_property = |(key, _): &(&String, &String)| *key != FIRST_KEY;
    Arc::ptr_eq(one, other)
        || pairs
            .iter()
            .filter(is_property)
            .eq(others.iter().filter(is_property))
}

/// The session of a channel. Nothing but its device and number is known.
fn session(channel: &ChannelInfo) -> Option<Arc<Session>> {
    let (number, _) = numbering(&channel.record.metadata)?;
    Some(Arc::new(Session::recovered(
        Arc::clone(&channel.device),
        number,
        0,
        0,
    )))
}

fn metadata<'a>(channel: &'a ChannelInfo, key: &str) -> Option<&'a str> {
    channel.record.metadata.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use blocksd_recording::{
        Channel, ChannelSpec, Error, Log, LogOptions, LostRange, Reader, Visitor, Wanted,
    };

    use super::*;

    /// Hands each message of a recording to a function.
    struct Each<F>(F);

    impl<F: FnMut(&Message<'_>)> Visitor for Each<F> {
        type Error = Error;

        fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
            (self.0)(message);
            Ok(())
        }

        fn lost(&mut self, _: &Path, lost: &LostRange) -> Result<(), Error> {
            panic!("{lost}");
        }

        fn idle(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    /// Records messages of a device `d` with these origins, and hands each to a function.
    fn each(origins: &[Option<MessageOrigin>], message: impl FnMut(&Message<'_>)) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
        let spec = || ChannelSpec {
            topic: "/device/d/blocks".to_owned(),
            ..ChannelSpec::default()
        };
        let channel = log.channel(&mut Channel::default(), spec).unwrap();
        for (origin, sequence) in origins.iter().zip(0..) {
            let bytes = std::iter::once(&b""[..]);
            log.append_all(channel, *origin, sequence, 1, bytes)
                .unwrap();
        }
        log.finish().unwrap();
        let reader = Reader::new(vec![folder.path().into()], Wanted::default());
        reader.visit(&mut Each(message)).unwrap();
    }

    #[test]
    fn connections_of_an_earlier_run_are_forgotten() {
        // The connection that a message without an origin is assigned to, after a crash and these calls.
        let after = |act: fn(&mut Connections)| {
            let mut connections = Connections::default();
            connections.open(1, "d");
            act(&mut connections);
            let mut conn = None;
            each(&[None], |message| {
                conn = Some(connections.of(message).conn);
            });
            conn.unwrap()
        };
        assert_eq!(after(|_| {}), 1);
        assert_eq!(after(|it| it.open(2, "d")), 0);
        // The daemon has restarted, and uses the number again.
        assert_eq!(after(|it| it.open(1, "d")), 1);
        let of_another = |it: &mut Connections| {
            it.open(1, "other");
            it.open(2, "d");
        };
        assert_eq!(after(of_another), 2);
        let restarted = |it: &mut Connections| {
            it.restart();
            it.open(2, "d");
        };
        assert_eq!(after(restarted), 2);
    }

    #[test]
    fn connections_that_are_never_closed_are_forgotten() {
        let mut connections = Connections::default();
        for conn in 1..=2 * CONNECTIONS_MAX as u64 + 7 {
            connections.open(conn, if conn % 2 == 0 { "a" } else { "b" });
            assert!(connections.opened.len() <= CONNECTIONS_MAX);
        }
        assert_eq!(connections.opened.len(), 7);
        connections.open(1, &"x".repeat(DEVICE_MAX + 1));
        assert_eq!(connections.len(), 7 + 2);
    }

    #[test]
    fn a_number_that_does_not_grow_is_that_of_another_connection() {
        let of = |seq| MessageOrigin::new(7, seq);
        let mut connections = Connections::default();
        let mut sources: Vec<Arc<ConnectionInfo>> = Vec::new();
        each(&[of(0), of(1), of(5), of(5), of(6), of(0)], |message| {
            sources.push(connections.of(message));
        });
        let changes = sources.windows(2).map(|it| !Arc::ptr_eq(&it[0], &it[1]));
        assert!(changes.eq([false, false, true, false, true]));
        assert!(sources.iter().all(|source| source.conn == 7));
    }

    #[test]
    fn a_session_continues_in_the_next_file_with_the_same_connection() {
        let folder = tempfile::tempdir().unwrap();
        for (session, number) in [
            ("0000000000000007", 0),
            ("0000000000000007", 1),
            ("0000000000000008", 2),
        ] {
            let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
            let metadata = [("session", session), ("first", &*number.to_string())];
            let spec = || ChannelSpec {
                topic: "/device/d/blocks".to_owned(),
                metadata: metadata
                    .map(|(key, text)| (key.to_owned(), text.to_owned()))
                    .into(),
                ..ChannelSpec::default()
            };
            let channel = log.channel(&mut Channel::default(), spec).unwrap();
            let (origin, bytes) = (MessageOrigin::new(5, number), std::iter::once(&b"x"[..]));
            log.append_all(channel, origin, number as u32, 1, bytes)
                .unwrap();
            log.finish().unwrap();
        }
        let (mut connections, mut sources) = (Connections::default(), Vec::new());
        let each = Each(|message: &Message<'_>| sources.push(connections.of(message)));
        let reader = Reader::new(vec![folder.path().into()], Wanted::default());
        reader.visit(&mut { each }).unwrap();
        let sessions = sources
            .iter()
            .map(|it| it.session.as_ref().unwrap().number());
        assert!(sessions.eq([7, 7, 8]));
        assert!(Arc::ptr_eq(&sources[0], &sources[1]) && !Arc::ptr_eq(&sources[1], &sources[2]));
    }

    #[test]
    fn connections_whose_close_is_not_recorded_are_forgotten() {
        let origins: Vec<_> = (1..20_000)
            .map(|conn| MessageOrigin::new(conn, 0))
            .collect();
        let mut connections = Connections::default();
        connections.open(3, "d");
        each(&origins, |message| {
            assert_ne!(connections.of(message).conn, 0);
            assert!(connections.known.len() <= 2 * SWEEP_AFTER + 1);
        });
        assert!(connections.known.contains_key(&3));
    }
}
