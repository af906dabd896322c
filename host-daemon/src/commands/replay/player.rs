//! Follows the events of a recording with outgoing connections. Start with [`Player`].

use std::sync::Arc;
use std::time::Instant;

use framing_core::{AnyFraming, Blocks, Fault, Part};
use indicatif::HumanDuration;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::Replay;
use crate::commands::replay::connections::OpenConnections;
use crate::commands::replay::dialer::{Dialer, OutgoingConnection};
use crate::commands::replay::pieces::{Collected, Unsendable};
use crate::commands::replay::schedule::{Due, PauseNote, Schedule};
use crate::commands::replay::sender::SendCommand;
use crate::commands::replay::session::SessionFailure;
use crate::commands::replay::totals::ReplayTotals;
use crate::error::CommandError;
use crate::payload::members;
use crate::recorded::lifecycle::Lifecycle;
use crate::recorded::time::nanoseconds;
use crate::tls::client::Connector;
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{ConnectionInfo, Event, EventKind, StreamPosition};
use blocksd_engine::reason::CloseReason;
use blocksd_recording::Wanted;
use tokio_util::sync::CancellationToken;

/// Pauses that are reported one by one.
const NOTES_MAX: u64 = 5;

/// Sends what the events of a recording contain, at their time.
#[derive(Debug)]
pub(super) struct Player {
    wanted: Wanted,
    framing: Option<AnyFraming>,
    /// Messages in other framings are not sent.
    only: Option<AnyFraming>,
    /// Framings of messages that are sent.
    framings: Framings,
    schedule: Schedule,
    connections: OpenConnections,
    totals: Arc<ReplayTotals>,
    /// Number of events so far.
    events: u64,
    /// Number of unusual pauses.
    notes: u64,
    /// Empty messages and ends of series that are recorded as counts.
    empty: u64,
    ends: u64,
}

impl Player {
    /// Sends to the address of the arguments.
    pub(super) fn new(
        arguments: &Replay,
        connector: Connector,
        totals: Arc<ReplayTotals>,
        stop: CancellationToken,
        session: Option<SessionFailure>,
    ) -> Self {
        // A session has one framing.
        let blocks = session.is_some().then_some(AnyFraming::Blocks(Blocks));
        let dialer = Dialer::new(&arguments.to, connector, Arc::clone(&totals), stop, session);
        Self {
            wanted: Wanted {
                devices: arguments.select.device.clone(),
                ..Wanted::default()
            },
            framing: arguments.framing.or(blocks),
            only: arguments.recorded_framing,
            framings: Framings::new(&arguments.to),
            schedule: Schedule::new(arguments.speed, arguments.max_gap.0),
            connections: OpenConnections::new(dialer),
            totals,
            events: 0,
            notes: 0,
            empty: 0,
            ends: 0,
        }
    }

    /// Sends an event when it is due.
    pub(super) async fn event(&mut self, event: &Event) -> Result<(), CommandError> {
        let source = &event.source;
        if !self.wanted.has(&source.device) {
            return Ok(());
        }
        if let EventKind::Suppressed(sums) = &event.kind {
            self.empty += sums.empty;
            self.ends += sums.ends;
            return Ok(());
        }
        if self.is_left_out(event) {
            return Ok(());
        }
        self.wait(event).await;
        self.totals.show();
        self.events += 1;
        match &event.kind {
            EventKind::Opened { .. } => {
                let (device, conn) = (&source.device, source.conn);
                self.connections.open(device, conn).await
            }
            EventKind::Batch { batch, position } => self.batch(source, batch, position).await,
            EventKind::Closed { reason, .. } => {
                self.close(&source.device, source.conn, Some(*reason)).await;
                Ok(())
            }
            EventKind::Session(_)
            | EventKind::Gap(_)
            | EventKind::Silent { .. }
            | EventKind::Back { .. }
            | EventKind::Suppressed(_)
            | EventKind::Undecodable(_) => Ok(()),
        }
    }

    /// Takes an event of the daemon itself.
    pub(super) async fn lifecycle(&mut self, event: &Lifecycle<'_>) {
        // OpenConnections of the run before have ended, and their numbers begin again.
        if matches!(event, Lifecycle::Started { .. }) {
            self.close_all().await;
        }
    }

    /// Takes an event that is unknown to [`Event`], as JSON.
    pub(super) async fn other(&mut self, json: &[u8]) -> Result<(), CommandError> {
        let known = members(json);
        let text = |key| known.get(key).and_then(Value::as_str);
        let device = text("device").unwrap_or_default();
        // Closed for a reason of a later version.
        if text("event") == Some("close") && self.wanted.has(device) {
            let conn = known.get("conn").and_then(Value::as_u64);
            self.close(device, conn.unwrap_or_default(), None).await;
        }
        Ok(())
    }

    /// Ends all connections, and reports unsent messages. Returns how many connections there were.
    pub(super) async fn finish(&mut self) -> usize {
        self.close_all().await;
        self.connections.finish().await;
        for (text, count) in [
            (
                "pauses that were not reported",
                self.notes.saturating_sub(NOTES_MAX),
            ),
            (
                "messages not sent, because the recording has only a part of each",
                self.totals.incomplete_count(),
            ),
            (
                "messages sent in part, as they were received",
                self.totals.truncated_count(),
            ),
            (
                "empty messages not sent, because they are recorded as a number only",
                self.empty,
            ),
            (
                "ends of series not sent, because they are recorded as a number only",
                self.ends,
            ),
        ] {
            if count != 0 {
                self.totals.print(format_args!("blocksd: {text}: {count}"));
            }
        }
        self.connections.opened()
    }

    /// Whether an event is not sent because of its framing. Opens, ends and faults are recorded without their framing: an
    /// open is left out, since the first message of a connection opens it too, and the others concern only connections that
    /// are open.
    fn is_left_out(&mut self, event: &Event) -> bool {
        let Some(only) = self.only else {
            return false;
        };
        let source = &event.source;
        match &event.kind {
            EventKind::Opened { .. } => true,
            EventKind::Batch { batch, .. } => {
                let mut items = batch.items();
                match items.any(|item| matches!(item, Item::Message(_) | Item::Piece { .. })) {
                    true => source.framing != only,
                    false => self.connections.find(&source.device, source.conn).is_none(),
                }
            }
            EventKind::Closed { .. }
            | EventKind::Session(_)
            | EventKind::Gap(_)
            | EventKind::Silent { .. }
            | EventKind::Back { .. }
            | EventKind::Suppressed(_)
            | EventKind::Undecodable(_) => false,
        }
    }

    async fn wait(&mut self, event: &Event) {
        let time = nanoseconds(event.time);
        // An open is recorded when its payload pays for it, with its own time.
        let may_be_late = matches!(event.kind, EventKind::Opened { .. });
        let Due { at, note } = self.schedule.next(time, may_be_late, Instant::now());
        if let Some((last, note)) = note {
            self.notes += 1;
            if self.notes <= NOTES_MAX {
                self.report(last, note);
            }
        }
        if let Some(at) = at
            && Instant::now() < at
        {
            tokio::time::sleep_until(at.into()).await;
        }
    }

    fn report(&self, last: u64, note: PauseNote) {
        let last = Timestamp::from_nanosecond(last.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        match note {
            PauseNote::Shortened(gap) => self.totals.print(format_args!(
                "blocksd: the pause of {} after {last:.0} is shortened; --max-gap sets the longest pause",
                HumanDuration(gap)
            )),
            PauseNote::Long(gap) => self.totals.print(format_args!(
                "blocksd: nothing to send for {} after {last:.0}; --max-gap shortens pauses",
                HumanDuration(gap)
            )),
            PauseNote::Back(by) => self.totals.print(format_args!(
                "blocksd: the recorded time goes back by {} after {last:.0}; continuing without a pause",
                HumanDuration(by)
            )),
        }
    }

    async fn batch(
        &mut self,
        source: &ConnectionInfo,
        batch: &Arc<Batch>,
        position: &StreamPosition,
    ) -> Result<(), CommandError> {
        if batch.only_blocks().is_some() {
            let connection = self.sending(source, source.framing).await?;
            connection.has_session |= source.session.is_some();
            connection.send(SendCommand::Batch(Arc::clone(batch))).await;
            return Ok(());
        }
        let mut position = *position;
        for item in batch.items() {
            match item {
                Item::Message(bytes) => {
                    let connection = self.sending(source, source.framing).await?;
                    connection.send(SendCommand::Message(bytes.to_vec())).await;
                }
                Item::Piece {
                    bytes,
                    first,
                    last,
                    truncated,
                } => {
                    let ends = (first, last);
                    self.piece(source, bytes, position.offset, ends).await?;
                    if truncated {
                        self.truncate(source);
                    }
                }
                Item::End => self.end_mark(source).await?,
                Item::Fault(fault) => self.fault(source, &fault).await,
                Item::Reset => self.mark_fault(source),
                Item::AfterEnd { .. } => {}
            }
            position.pass(&item);
        }
        Ok(())
    }

    async fn piece(
        &mut self,
        source: &ConnectionInfo,
        bytes: &[u8],
        offset: u64,
        (first, last): (bool, bool),
    ) -> Result<(), CommandError> {
        let totals = Arc::clone(&self.totals);
        let connection = self.sending(source, source.framing).await?;
        // A stream has no messages: its pieces are sent as they came.
        let is_stream =
            |framing: Option<AnyFraming>| matches!(framing, Some(AnyFraming::Stream(_)));
        if is_stream(connection.framing) || is_stream(connection.recorded) {
            connection.send(SendCommand::Message(bytes.to_vec())).await;
            return Ok(());
        }
        if first && connection.pieces.cut() {
            totals.incomplete();
        }
        match connection.pieces.add(bytes, offset, (first, last)) {
            Ok(None) => {}
            Ok(Some(Collected::Memory(bytes))) => {
                connection.send(SendCommand::Message(bytes)).await;
            }
            Ok(Some(Collected::Stored(message))) => {
                connection.send(SendCommand::Stored(message)).await;
            }
            Err(Unsendable::Incomplete) => totals.incomplete(),
            Err(Unsendable::TooLong) => {
                totals.unsent();
                totals.print(format_args!(
                    "blocksd: {}: a message of more than {} bytes is left out; no framing can express its length",
                    connection.label(),
                    u32::MAX
                ));
            }
            Err(Unsendable::Store(error)) => {
                totals.unsent();
                totals.print(format_args!(
                    "blocksd: {}: a message is left out, since it cannot be stored in {}: {error}; set TMPDIR to a directory with more space",
                    connection.label(),
                    std::env::temp_dir().display()
                ));
            }
        }
        Ok(())
    }

    /// The connection for a message that was received in this framing.
    async fn sending(
        &mut self,
        source: &ConnectionInfo,
        recorded: AnyFraming,
    ) -> Result<&mut OutgoingConnection, CommandError> {
        let (used, framing) = (self.events, self.framing);
        if framing.is_none()
            && let Some(hint) = self.framings.take(recorded)
        {
            self.totals.print(format_args!("blocksd: {hint}"));
        }
        let (device, conn) = (&source.device, source.conn);
        let connection = self.connections.get(device, conn, recorded, used).await?;
        begin(connection, recorded, framing).await;
        connection.has_messages = true;
        connection.is_ended = false;
        connection.has_fault = false;
        Ok(connection)
    }

    async fn end_mark(&mut self, source: &ConnectionInfo) -> Result<(), CommandError> {
        // The record of an end has no framing: that of the connection, or the only one with end marks.
        let known = self.connections.find(&source.device, source.conn);
        if known
            .as_ref()
            .is_some_and(|connection| connection.has_session)
        {
            // One end, at the close: more series could be those after the one that closes a connection.
            return Ok(());
        }
        let recorded = known.and_then(|connection| connection.recorded);
        let recorded = recorded.unwrap_or(source.framing);
        let connection = self.sending(source, recorded).await?;
        mark_end(connection).await;
        Ok(())
    }

    async fn fault(&mut self, source: &ConnectionInfo, fault: &Fault) {
        self.mark_fault(source);
        let Some(connection) = self.connections.find(&source.device, source.conn) else {
            return;
        };
        if let Fault::Truncated {
            part: Part::Payload,
            want,
            ..
        } = fault
        {
            send_cut(connection, &self.totals, Some(*want)).await;
        }
        if connection.pieces.cut() {
            self.totals.incomplete();
        }
    }

    fn truncate(&mut self, source: &ConnectionInfo) {
        if let Some(connection) = self.connections.find(&source.device, source.conn) {
            connection.pieces.truncate();
        }
    }

    fn mark_fault(&mut self, source: &ConnectionInfo) {
        if let Some(connection) = self.connections.find(&source.device, source.conn) {
            connection.has_fault = true;
        }
    }

    async fn close(&mut self, device: &str, conn: u64, reason: Option<CloseReason>) {
        if let Some(connection) = self.connections.remove(device, conn) {
            self.end(connection, reason).await;
        }
    }

    /// Ends a connection that was closed for this reason, if one is recorded.
    async fn end(&mut self, mut connection: OutgoingConnection, reason: Option<CloseReason>) {
        // Its fault may be recorded as a number only.
        send_cut(&mut connection, &self.totals, None).await;
        if connection.pieces.cut() {
            self.totals.incomplete();
        }
        // The mark may be recorded as a number, but it is what has closed the connection.
        let is_counted = reason == Some(CloseReason::End);
        if is_counted && !connection.is_ended {
            self.ends = self.ends.saturating_sub(1);
        }
        // A connection in a framing without end marks ends its series when it closes.
        let is_blocks =
            |framing: Option<AnyFraming>| matches!(framing, Some(AnyFraming::Blocks(_)));
        let is_whole = reason == Some(CloseReason::Eof)
            && connection.has_messages
            && !connection.has_fault
            && !is_blocks(connection.recorded)
            && is_blocks(connection.framing);
        let is_session = connection.has_session && connection.has_messages;
        if (is_counted || is_whole || is_session) && !connection.is_ended {
            let recorded = AnyFraming::Blocks(Blocks);
            begin(&mut connection, recorded, self.framing).await;
            mark_end(&mut connection).await;
        }
        self.connections.close(connection);
    }

    async fn close_all(&mut self) {
        for connection in self.connections.remove_all() {
            self.end(connection, None).await;
        }
    }
}

/// Sends the beginning of a message whose rest was never received. `want` is its length, if that is known.
async fn send_cut(connection: &mut OutgoingConnection, totals: &ReplayTotals, want: Option<u32>) {
    match connection.pieces.take_cut(want) {
        Ok(Some(cut)) => connection.send(SendCommand::Cut(cut)).await,
        Ok(None) => {}
        Err(_) => totals.incomplete(),
    }
}

/// The framings of messages that are sent as they were received.
#[derive(Debug)]
struct Framings {
    to: String,
    first: Option<AnyFraming>,
    is_reported: bool,
}

impl Framings {
    fn new(to: &str) -> Self {
        Self {
            to: to.to_owned(),
            first: None,
            is_reported: false,
        }
    }

    /// Takes the framing of a message. Returns a hint when a second one appears, since a receiver that expects one framing
    /// misreads the other.
    fn take(&mut self, framing: AnyFraming) -> Option<String> {
        let first = *self.first.get_or_insert(framing);
        if self.is_reported || first == framing {
            return None;
        }
        self.is_reported = true;
        Some(format!(
            "messages in several framings, such as {first} and {framing}, are sent to {}, each in its own; for a receiver \
             of one framing, add --framing {first} to send all of them in it, or --recorded-framing {first} to leave the \
             others out",
            self.to
        ))
    }
}

/// Sets the framing of a connection that has none yet.
async fn begin(
    connection: &mut OutgoingConnection,
    recorded: AnyFraming,
    framing: Option<AnyFraming>,
) {
    if connection.framing.is_none() {
        let framing = framing.unwrap_or(recorded);
        connection.recorded = Some(recorded);
        connection.framing = Some(framing);
        connection.send(SendCommand::Framing(framing)).await;
    }
}

async fn mark_end(connection: &mut OutgoingConnection) {
    connection.send(SendCommand::End).await;
    connection.is_ended = true;
}
