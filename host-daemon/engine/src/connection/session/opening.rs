//! How a connection begins: with a HELLO that opens a session, with one that is refused, or with plain messages.

use std::sync::Arc;
use std::time::SystemTime;

use framing_core::session::wire::{ClosingCode, FrameError, Hello, Opening, SYNCED, VERSION};

use crate::connection::policy::SessionMode;
use crate::connection::session::attached::{Attached, LastFrame};
use crate::connection::session::{SendingSide, control};
use crate::connection::{Beginning, Connection, PendingSend, Step};
use crate::event::{ConnectionInfo, EventKind, SessionOpened};
use crate::peer_log::{Kind, warn_peer};
use crate::pool::Buffer;
use crate::reason::{CloseReason, RefusedReason};
use crate::session::OpenedSession;

impl Connection {
    /// Decides with the first bytes whether the connection has a session.
    pub(super) fn decode_opening(&mut self, buffer: Buffer) -> Step {
        match Hello::opening(buffer.bytes()) {
            Opening::Undecided => self.wait_for_more(buffer),
            // A device that reads nothing does not notice the answer.
            Opening::Plain if self.policy.sessions.mode == SessionMode::Required => {
                let frame = LastFrame::new(ClosingCode::Protocol, 60, "sessions required");
                let why = "the listener requires sessions, and the device sends plain messages";
                self.refuse_hello(frame, &why)
            }
            Opening::Plain => {
                self.beginning = Beginning::Decided;
                self.decide_device();
                if let Some(stats) = &self.source.stats {
                    stats.arrived();
                }
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
        let has_reply = self.sending.is_some();
        let is_off = self.policy.sessions.mode == SessionMode::Off || has_reply;
        let sessions = match self.context.sessions.clone() {
            Some(sessions) if !is_off => sessions,
            sessions => {
                let frame = LastFrame::new(ClosingCode::NoSession, 60, "no sessions here");
                let why = match (sessions, has_reply) {
                    (None, _) => {
                        "this daemon does not record, so it cannot acknowledge; use --record"
                    }
                    (Some(_), true) => "the listener has a reply",
                    (Some(_), false) => "sessions are off on this listener",
                };
                return self.refuse_hello(frame, &why);
            }
        };
        let hello = match Hello::parse(payload) {
            Ok(hello) => hello,
            Err(error) => return self.refuse_frame(&error),
        };
        if let Some(certificate) = &self.source.certificate
            && *certificate.name != *hello.device
        {
            let frame = LastFrame::new(
                ClosingCode::Forbidden,
                3600,
                "not the name of the certificate",
            );
            let why = format!(
                "the device calls itself `{}`, and its certificate is that of `{}`",
                hello.device, certificate.name
            );
            return self.refuse_hello(frame, &why);
        }
        let replaces = sessions.would_supersede(self.source.conn, &hello);
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
            former: Arc::clone(&former),
            kind: *kind,
            resume: resumed.resume,
            held: hello.held,
            lost: hello.lost,
            room: hello.room,
            uptime_us: hello.uptime_us,
        };
        sessions.counters().opened(*kind);
        let (devices, time) = (&self.context.devices, SystemTime::now());
        let stats = self.source.stats.as_ref();
        let stats = stats.map(|former| devices.rename(former, session.device(), replaces, time));
        self.undecided = None;
        if let Some(stats) = &stats {
            stats.arrived();
        }
        self.source = Arc::new(ConnectionInfo {
            device: Arc::clone(session.device()),
            session: Some(Arc::clone(session)),
            stats,
            certificate: self.source.certificate.clone(),
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
        let of = (conn, former);
        let attached = Attached::new(&sessions, of, opened, &hello, &self.policy, clock);
        self.sending = Some(Box::new(SendingSide::Session(attached)));
        match self.try_send(self.event_at(EventKind::Session(Box::new(event)), time)) {
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

    /// Before the end of a connection whose first bytes have not decided, lets the decoder see them.
    pub(in crate::connection) fn decide_at_end(&mut self) {
        if self.beginning == Beginning::Undecided {
            self.beginning = Beginning::Decided;
            self.decide_device();
            let bytes = std::mem::take(&mut self.remainder);
            if !bytes.is_empty() {
                // Fewer bytes than a message has.
                let _ = self.decode(Buffer::own(bytes));
            }
        }
    }
}
