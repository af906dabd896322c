//! The session of a connection: decides whether there is one, numbers its messages, and answers the device.

mod attached;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use framing_core::session::wire::{
    CONT_MAX, ClosingCode, Cont, FrameError, Hello, NUMBER_MAX, Opening, SYNCED, VERSION,
};
use framing_core::{AnyFraming, Fault, Limits};
use tokio::io::AsyncWriteExt;

use self::attached::{After, Attached, Expects, LastFrame};
use crate::batch::{Batch, ClosePolicy, Decoded, Item, OversizePolicy, WholeMessages};
use crate::connection::policy::{Policy, SessionMode};
use crate::connection::responder::{Responder, until_read};
use crate::connection::{Beginning, Connection, PendingSend, Step};
use crate::event::{ConnectionInfo, Event, EventKind, SessionOpened};
use crate::listen::transport::Transport;
use crate::peer_log::{Kind, warn_peer};
use crate::pool::Buffer;
use crate::reason::{CloseReason, RefusedReason};
use crate::session::{OpenedSession, Passing};
use crate::sink::fanout::Places;

/// Time for the last commit before a shutdown.
const LAST_COMMIT: Duration = Duration::from_millis(500);
/// Time for the device to close after the last frame of a shutdown.
const LAST_READ: Duration = Duration::from_millis(200);
/// Time for the device to accept the last frame.
const LAST_FRAME: Duration = Duration::from_secs(1);

/// What a connection sends to its device.
#[derive(Debug)]
pub(in crate::connection) enum SendingSide {
    /// A reply.
    Reply(Box<dyn Responder>),
    /// The frames of a session.
    Session(Attached),
    /// Why no session was opened.
    Refused(LastFrame),
}

impl SendingSide {
    pub(super) const fn responder(&mut self) -> Option<&mut Box<dyn Responder>> {
        match self {
            Self::Reply(responder) => Some(responder),
            Self::Session(_) | Self::Refused(_) => None,
        }
    }

    /// Number of messages that were received, if there is a session.
    pub(super) const fn messages(&self) -> Option<u64> {
        match self {
            Self::Session(attached) => Some(attached.messages),
            Self::Reply(_) | Self::Refused(_) => None,
        }
    }

    /// Writes the frames of a session that are due. Returns the reason to close, if any.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        transport: &mut dyn Transport,
    ) -> Option<CloseReason> {
        match self {
            Self::Session(attached) => attached.poll(context, transport),
            Self::Reply(_) | Self::Refused(_) => None,
        }
    }
}

/// Whether a connection with this policy may begin with a HELLO.
pub(super) const fn may_begin_with_hello(policy: &Policy) -> bool {
    matches!(policy.framing, AnyFraming::Blocks(_))
}

/// Waits for a future, and writes the frames of a session that become due in the meantime.
pub(super) async fn while_serving<T>(
    sending: &mut Option<Box<SendingSide>>,
    transport: &mut dyn Transport,
    future: impl Future<Output = T>,
) -> T {
    let mut future = std::pin::pin!(future);
    let mut is_served = sending.is_some();
    poll_fn(|context| {
        if is_served && let Some(sending) = sending.as_deref_mut() {
            // The next step of the connection finds the reason to close again.
            is_served = sending.poll(context, transport).is_none();
        }
        future.as_mut().poll(context)
    })
    .await
}

impl Connection {
    /// Decodes the content of a buffer of a connection that has, or may have, a session.
    pub(super) fn decode_session(&mut self, buffer: Buffer) -> Step {
        let Some(SendingSide::Session(attached)) = self.sending.as_deref_mut() else {
            return self.decode_opening(buffer);
        };
        if let Some(after) = attached.after.take() {
            return self.after_batch(after, buffer);
        }
        match attached.expects {
            Expects::Cont => self.decode_cont(buffer),
            Expects::Message => self.decode_numbered(buffer),
            Expects::Skip(left) => self.skip(left, buffer),
        }
    }

    /// Decides with the first bytes whether the connection has a session.
    fn decode_opening(&mut self, buffer: Buffer) -> Step {
        match Hello::opening(buffer.bytes()) {
            Opening::Undecided => self.wait_for_more(buffer),
            Opening::Plain if self.policy.sessions.mode == SessionMode::Required => {
                let (conn, device) = (self.source.conn, &self.source.device);
                warn_peer!(Kind::Session, device, conn, %device, "closed: the listener requires sessions, and the device sends plain messages");
                Step::Close(CloseReason::SessionRefused)
            }
            Opening::Plain => {
                self.beginning = Beginning::Decided;
                self.decode(buffer)
            }
            Opening::Hello => match control(buffer.bytes()) {
                Some((payload, used)) => {
                    let payload = payload.to_vec();
                    self.keep_rest(buffer, used);
                    self.hello(&payload)
                }
                None => self.wait_for_more(buffer),
            },
        }
    }

    fn hello(&mut self, payload: &[u8]) -> Step {
        self.beginning = Beginning::Decided;
        self.deadlines.decoded(&self.policy.timeouts, false, true);
        let sessions = self.context.sessions.clone();
        let is_off = self.policy.sessions.mode == SessionMode::Off || self.sending.is_some();
        let sessions = sessions.filter(|_| !is_off);
        let Some(sessions) = sessions else {
            let frame = LastFrame::new(ClosingCode::NoSession, 60, "no sessions here");
            return self.refuse_hello(frame, &"sessions are off on this listener");
        };
        let hello = match Hello::parse(payload) {
            Ok(hello) => hello,
            Err(error) => return self.refuse_frame(&error),
        };
        let replaces = sessions.is_owned(hello.device, hello.session);
        let is_named = *self.source.device == *hello.device;
        if !is_named && !self.permit.rename(&hello.device.into(), replaces) {
            let frame = LastFrame::new(ClosingCode::Full, 60, "too many connections");
            return self.refuse_hello(frame, &RefusedReason::DeviceFull);
        }
        let opened = match sessions.hello(self.source.conn, &hello) {
            Ok(opened) => opened,
            Err(refused) => {
                let (code, retry_s, text) = refused.closing();
                return self.refuse_hello(LastFrame::new(code, retry_s, text), &refused);
            }
        };
        self.transport.set_low_latency();
        let OpenedSession {
            session,
            kind,
            resumed,
        } = &opened;
        let former = Arc::clone(&self.source.device);
        let event = SessionOpened {
            former,
            kind: *kind,
            resume: resumed.resume,
            held: hello.held,
            lost: hello.lost,
            room: hello.room,
            uptime_us: hello.uptime_us,
        };
        sessions.counters().opened(*kind);
        self.source = Arc::new(ConnectionInfo {
            device: Arc::clone(session.device()),
            session: Some(Arc::clone(session)),
            framing: self.source.framing,
            encoding: self.source.encoding.clone(),
            ..*self.source
        });
        let clock = if sessions.is_clock_synced() {
            SYNCED
        } else {
            0
        };
        let conn = self.source.conn;
        let attached = Attached::new(&sessions, conn, opened, &hello, &self.policy, clock);
        self.sending = Some(Box::new(SendingSide::Session(attached)));
        match self.try_emit(EventKind::Session(Box::new(event))) {
            Ok(()) => Step::Go,
            Err(event) => Step::Held(Box::new(PendingSend::Event(event, None))),
        }
    }

    fn refuse_frame(&mut self, error: &FrameError) -> Step {
        let code = error.closing();
        let text = match code {
            ClosingCode::Version => "unknown version",
            ClosingCode::Unsupported => "unsupported",
            _ => "malformed HELLO",
        };
        let number = match code {
            ClosingCode::Version => u64::from(VERSION),
            _ => 0,
        };
        let frame = LastFrame {
            number,
            ..LastFrame::new(code, 60, text)
        };
        self.refuse_hello(frame, error)
    }

    fn refuse_hello(&mut self, frame: LastFrame, why: &dyn std::fmt::Display) -> Step {
        let (conn, device) = (self.source.conn, &self.source.device);
        warn_peer!(Kind::Session, device, conn, %device, "session refused: {why}");
        if let Some(sessions) = &self.context.sessions {
            sessions.counters().closing(frame.code);
        }
        self.sending = Some(Box::new(SendingSide::Refused(frame)));
        Step::Close(match frame.code {
            ClosingCode::Superseded => CloseReason::Superseded,
            _ => CloseReason::SessionRefused,
        })
    }

    /// Takes the CONT that opens a series.
    fn decode_cont(&mut self, buffer: Buffer) -> Step {
        let too_long = buffer.bytes().first_chunk();
        let too_long = too_long.is_some_and(|len| CONT_MAX < u32::from_be_bytes(*len) as usize);
        if too_long {
            return self.break_protocol("a series does not begin with a CONT");
        }
        let Some((payload, used)) = control(buffer.bytes()) else {
            return self.wait_for_more(buffer);
        };
        let cont = Cont::parse(payload).map(|cont| (cont.session, cont.number));
        self.keep_rest(buffer, used);
        self.deadlines.decoded(&self.policy.timeouts, false, true);
        let Some(attached) = self.attached() else {
            return Step::Go;
        };
        let (session, number) = match cont {
            Ok(cont) => cont,
            Err(error) if error.closing() == ClosingCode::Unsupported => {
                let frame = LastFrame::new(ClosingCode::Unsupported, 60, "unsupported");
                attached.closing = Some(Box::new(frame));
                return Step::Close(CloseReason::Protocol);
            }
            Err(_) => return self.break_protocol("malformed CONT"),
        };
        if session != attached.session.number() {
            return self.break_protocol("CONT of another session");
        }
        attached.expects = Expects::Message;
        attached.has_begun = true;
        let mut next = attached.next;
        let continued = attached.session.cont(attached.conn, &mut next, number);
        attached.next = next;
        // If it is not the owner, the next step finds out why.
        if let Ok(continued) = continued {
            attached.is_pinged |= continued.is_ping;
        }
        self.pass_numbered(None, None)
    }

    /// Finds messages, up to the end of the series or to a message that is too long.
    fn decode_numbered(&mut self, buffer: Buffer) -> Step {
        let limits = Limits {
            block_max: self.policy.limits.block_max,
            skip_max: u32::MAX,
        };
        let close = ClosePolicy {
            at_end: true,
            oversize: OversizePolicy::Close,
        };
        let Decoded {
            mut batch,
            used,
            ended,
            full,
            want,
            ..
        } = Batch::decode(
            buffer,
            &mut self.decoder,
            &limits,
            close,
            WholeMessages::Kept,
            &mut self.streaming,
        );
        self.want = u32::try_from(want).unwrap_or(u32::MAX);
        let last = self.attached().map_or(0, |attached| attached.next) + batch.messages().0;
        if NUMBER_MAX < last {
            return self.break_protocol("a number of 56 bits is not enough");
        }
        let after = match batch.take_mark() {
            Some(Item::Fault(fault)) => Some(After::Refused(fault)),
            Some(_) => Some(After::End),
            None => None,
        };
        if after.is_some() {
            // It tracks the message that is refused, or the end of the series.
            self.decoder = framing_core::Framing::decoder(&self.policy.framing);
        }
        self.undecoded = full || after.is_some();
        let is_charged = !batch.is_empty();
        let batch = match is_charged {
            true => {
                self.remainder = batch.rest(used).to_vec();
                Some(batch)
            }
            false => {
                self.remainder = batch.into_buffer().into_remainder(used);
                None
            }
        };
        let is_cut = !self.remainder.is_empty() && after.is_none();
        self.deadlines.decoded(&self.policy.timeouts, is_cut, ended);
        if let Some(attached) = self.attached() {
            attached.after = after;
            attached.has_ended = false;
        }
        let Some(mut batch) = batch else {
            return Step::Go;
        };
        match batch.try_charge(&self.context.pool, &mut self.quota) {
            true => self.pass_numbered(Some(batch), None),
            false => Step::Held(Box::new(PendingSend::Batch(batch, None))),
        }
    }

    /// Handles what ended a batch, after the batch was passed on.
    fn after_batch(&mut self, after: After, buffer: Buffer) -> Step {
        let is_last = buffer.bytes().is_empty();
        self.keep_rest(buffer, 0);
        let Some(attached) = self.attached() else {
            return Step::Go;
        };
        match after {
            After::End => {
                attached.expects = Expects::Cont;
                attached.has_ended = is_last;
                // An end before a CONT only makes room for it.
                match is_last {
                    true => self.pass(Batch::of_end(), None),
                    false => Step::Go,
                }
            }
            After::Refused(fault) => {
                let declared = match fault {
                    Fault::TooLong { declared, .. } => declared.unwrap_or_default(),
                    _ => 0,
                };
                attached.expects = Expects::Skip(declared.into());
                self.deadlines.decoded(&self.policy.timeouts, true, true);
                self.pass(Batch::of_fault(fault), None)
            }
        }
    }

    /// Skips a refused message. It uses its number when its last byte has arrived.
    fn skip(&mut self, left: u64, buffer: Buffer) -> Step {
        let len = (buffer.bytes().len() as u64).min(left);
        self.keep_rest(buffer, usize::try_from(len).unwrap_or(usize::MAX));
        let Some(attached) = self.attached() else {
            return Step::Go;
        };
        let left = left - len;
        attached.expects = Expects::Skip(left);
        attached.unacked += len;
        if left != 0 {
            return Step::Go;
        }
        attached.expects = Expects::Message;
        if attached.next == NUMBER_MAX {
            return self.break_protocol("a number of 56 bits is not enough");
        }
        let mut next = attached.next;
        let refused = attached.session.refuse(attached.conn, &mut next);
        attached.next = next;
        self.deadlines.decoded(&self.policy.timeouts, false, true);
        match refused {
            Ok(()) => self.pass_numbered(None, None),
            // The next step finds out why.
            Err(_) => Step::Go,
        }
    }

    /// Passes the gaps of the session, then a batch, to the sinks: each gets its numbers together with its places in the
    /// queues.
    pub(super) fn pass_numbered(
        &mut self,
        mut batch: Option<Batch>,
        reason: Option<CloseReason>,
    ) -> Step {
        let context = Arc::clone(&self.context);
        loop {
            if batch.is_none() && !self.has_gaps() {
                return reason.map_or(Step::Go, Step::Close);
            }
            let Some(places) = context.fanout.try_reserve(&self.source.encoding) else {
                return Step::Held(Box::new(PendingSend::Numbered(batch, reason)));
            };
            self.place(places, &mut batch);
        }
    }

    /// Sends the first gap of the session, or the batch, to these places.
    pub(super) fn place(&mut self, places: Places<'_>, batch: &mut Option<Batch>) {
        let Some(SendingSide::Session(attached)) = self.sending.as_deref() else {
            *batch = None;
            return;
        };
        let count = batch.as_ref().map(|batch| {
            let check = batch.last_message().map_or(0, crc32fast::hash);
            (batch.messages().0, check)
        });
        let session = Arc::clone(&attached.session);
        let (source, time) = (Arc::clone(&self.source), SystemTime::now());
        let (conn, mut next) = (self.source.conn, attached.next);
        let mut position = self.position;
        let mut passed = None;
        let result = session.pass(conn, &mut next, count, |passing| match passing {
            Passing::Gap(gap) => {
                if let Some(sessions) = &self.context.sessions {
                    sessions.counters().gap(&gap);
                }
                let kind = EventKind::Gap(gap);
                places.send(Event { source, time, kind });
            }
            Passing::Messages(counted) => {
                let Some(mut batch) = batch.take() else {
                    return;
                };
                batch.skip_messages(counted.skip);
                passed = Some((counted.skip, batch.messages()));
                position.seq = counted.first + counted.skip;
                let before = position;
                position.pass_all(&batch);
                if batch.messages().0 != 0 {
                    let (batch, position) = (Arc::new(batch), before);
                    let kind = EventKind::Batch { batch, position };
                    places.send(Event { source, time, kind });
                }
            }
            Passing::Nothing => {}
        });
        if result.is_err() {
            // Another connection owns the session: the device sends the messages again.
            *batch = None;
            return;
        }
        self.position = position;
        if let Some((skipped, (messages, bytes))) = passed {
            self.bytes += bytes;
            self.context.counters.messages(messages, bytes);
            if let Some(sessions) = &self.context.sessions {
                sessions.counters().repeated(skipped);
            }
            if let Some(attached) = self.attached() {
                attached.messages += messages;
                attached.unacked += bytes + 4 * messages;
            }
        }
        if let Some(attached) = self.attached() {
            attached.next = next;
        }
    }

    /// Whether the connection has a session, or was refused one.
    pub(super) fn has_session(&self) -> bool {
        let sending = self.sending.as_deref();
        sending.is_some_and(|it| !matches!(it, SendingSide::Reply(_)))
    }

    fn has_gaps(&self) -> bool {
        match self.sending.as_deref() {
            Some(SendingSide::Session(attached)) => attached.session.has_gaps(),
            _ => false,
        }
    }

    fn attached(&mut self) -> Option<&mut Attached> {
        match self.sending.as_deref_mut() {
            Some(SendingSide::Session(attached)) => Some(attached),
            _ => None,
        }
    }

    fn break_protocol(&mut self, what: &'static str) -> Step {
        let (conn, device) = (self.source.conn, &self.source.device);
        warn_peer!(Kind::Session, device, conn, %device, "the device broke the protocol of sessions: {what}");
        self.remainder = Vec::new();
        self.undecoded = false;
        if let Some(attached) = self.attached() {
            let frame = LastFrame::new(ClosingCode::Protocol, 0, "protocol");
            attached.closing = Some(Box::new(frame));
        }
        Step::Close(CloseReason::Protocol)
    }

    /// Keeps the bytes of a buffer for the next read.
    fn wait_for_more(&mut self, buffer: Buffer) -> Step {
        self.remainder = buffer.into_remainder(0);
        self.want = u32::MAX;
        let is_cut = !self.remainder.is_empty();
        self.deadlines.decoded(&self.policy.timeouts, is_cut, false);
        Step::Go
    }

    /// Keeps the bytes of a buffer after the first `used`, to be decoded next.
    fn keep_rest(&mut self, buffer: Buffer, used: usize) {
        self.remainder = buffer.into_remainder(used);
        self.undecoded = !self.remainder.is_empty();
        self.want = u32::MAX;
    }

    /// Before the end of a connection whose first bytes have not decided, lets the decoder see them.
    pub(super) fn decide_at_end(&mut self) {
        if self.beginning == Beginning::Undecided {
            self.beginning = Beginning::Decided;
            let bytes = std::mem::take(&mut self.remainder);
            if !bytes.is_empty() {
                // Fewer bytes than a message has.
                let _ = self.decode(Buffer::own(bytes));
            }
        }
    }

    /// The fault of a message that the end of the connection has cut. Its bytes are not kept: the device sends it again.
    pub(super) fn cut_numbered(&mut self, reason: CloseReason) -> Option<Batch> {
        let is_by_device = !matches!(reason, CloseReason::Superseded | CloseReason::SyncFailed);
        let bytes = std::mem::take(&mut self.remainder);
        let is_message = self.attached()?.expects == Expects::Message;
        let fault = (is_message && is_by_device && !bytes.is_empty())
            .then(|| framing_core::Decode::close(&mut self.decoder, bytes.len()))??;
        Some(Batch::of_fault(fault))
    }

    /// Sends the last frames of a session, and waits until the device has read them. Returns the reason to close.
    pub(super) async fn close_session(&mut self, reason: CloseReason) -> CloseReason {
        let reason = match self.sending.as_deref() {
            Some(SendingSide::Session(_)) => self.settle(reason).await,
            Some(SendingSide::Refused(_)) => reason,
            _ => return reason,
        };
        let is_drained = matches!(reason, CloseReason::Eof | CloseReason::Shutdown);
        let mut last = Vec::new();
        match self.sending.as_deref_mut() {
            Some(SendingSide::Session(attached)) => {
                last = attached.take_unwritten();
                if reason == CloseReason::Shutdown && attached.closing.is_none() {
                    let frame = LastFrame::new(ClosingCode::Shutdown, 1, "shutdown");
                    attached.closing = Some(Box::new(frame));
                }
                last.extend(attached.last_frame().unwrap_or_default());
            }
            Some(SendingSide::Refused(frame)) => {
                last = frame.encode();
            }
            _ => {}
        }
        self.flush_gaps().await;
        if reason != CloseReason::Reset && (is_drained || !last.is_empty()) {
            let transport = &mut *self.transport;
            let written = async {
                transport.write_all(&last).await?;
                transport.shutdown().await
            };
            let written = tokio::time::timeout(LAST_FRAME, written).await;
            if written.is_ok_and(|written| written.is_ok()) {
                let read = until_read(&mut *self.transport);
                match reason {
                    CloseReason::Shutdown => drop(tokio::time::timeout(LAST_READ, read).await),
                    _ => read.await,
                }
            }
        }
        reason
    }

    /// Waits until everything received is acknowledged, if the device waits for that.
    async fn settle(&mut self, reason: CloseReason) -> CloseReason {
        let is_stopping = reason == CloseReason::Shutdown;
        if !matches!(reason, CloseReason::Eof | CloseReason::Shutdown) {
            return reason;
        }
        self.flush_gaps().await;
        let Self {
            sending,
            transport,
            permit,
            ..
        } = self;
        let settled = poll_fn(|context| {
            let Some(SendingSide::Session(attached)) = sending.as_deref_mut() else {
                return Poll::Ready(reason);
            };
            attached.has_ended = true;
            if !is_stopping && let Some(request) = permit.poll_close_request(context) {
                return Poll::Ready(request);
            }
            match attached.poll(context, &mut **transport) {
                Some(reason) => Poll::Ready(reason),
                None if attached.is_settled() => Poll::Ready(reason),
                None => Poll::Pending,
            }
        });
        match is_stopping {
            true => tokio::time::timeout(LAST_COMMIT, settled)
                .await
                .unwrap_or(reason),
            false => settled.await,
        }
    }

    /// Passes gaps that are left to the sinks: they belong to the session, whatever becomes of the connection.
    async fn flush_gaps(&mut self) {
        let context = Arc::clone(&self.context);
        while self.has_gaps() {
            let places = context.fanout.reserve(&self.source.encoding).await;
            self.place(places, &mut None);
        }
    }
}

/// The first message of some bytes, if it is whole: its payload, and its length with the header.
fn control(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (header, rest) = bytes.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes(*header) as usize;
    Some((rest.get(..len)?, 4 + len))
}
