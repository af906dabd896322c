//! The session of a connection: decides whether there is one, numbers its messages, and answers the device.

mod attached;
mod closing;
mod numbered;
mod opening;

use std::future::{Future, poll_fn};
use std::task::Context;

use framing_core::session::wire::{CONT_MAX, ClosingCode, Cont, NUMBER_MAX};
use framing_core::{AnyFraming, Fault};

use self::attached::{After, Attached, Expects, LastFrame};
use crate::batch::Batch;
use crate::connection::policy::Policy;
use crate::connection::responder::Responder;
use crate::connection::{Connection, Step};
use crate::listen::transport::Transport;
use crate::peer_log::{Kind, warn_peer};
use crate::pool::Buffer;
use crate::reason::CloseReason;

/// The sending side of a connection.
#[derive(Debug)]
pub(in crate::connection) enum SendingSide {
    /// A reply.
    Reply(Box<dyn Responder>),
    /// The frames of a session.
    Session(Attached),
    /// The CLOSING of a session that was not opened.
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

    /// Handles the item that ended a batch, after the batch was passed on.
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
                if !is_last {
                    return Step::Go;
                }
                attached.hasten();
                self.pass(Batch::of_end(), None)
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

    /// Whether the connection has a session, or was refused one.
    pub(super) fn has_session(&self) -> bool {
        let sending = self.sending.as_deref();
        sending.is_some_and(|it| !matches!(it, SendingSide::Reply(_)))
    }

    fn has_gaps(&self) -> bool {
        match self.sending.as_deref() {
            Some(SendingSide::Session(attached)) => attached.session.has_gaps(attached.conn),
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
}

/// The first message of some bytes, if it is whole: its payload, and its length with the header.
fn control(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (header, rest) = bytes.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes(*header) as usize;
    Some((rest.get(..len)?, 4 + len))
}
