//! Decodes the frames of one connection: [`DefmtDecoder`] knows which firmware sends.

use std::sync::{Arc, Mutex, PoisonError};

use crate::payload::defmt::build_id::BuildId;
use crate::payload::defmt::firmware::Firmware;
use crate::payload::defmt::log_frame::LogFrame;
use crate::payload::defmt::{Defmt, rzcobs};
use crate::payload::{DecodeError, Meaning};

/// Decodes the frames of one connection.
#[derive(Debug)]
pub(in crate::payload) struct DefmtDecoder {
    defmt: Arc<Defmt>,
    firmware: Mutex<Sender>,
}

/// The firmware that sends.
#[derive(Debug)]
enum Sender {
    /// It has these formats.
    Known(Arc<Firmware>),
    /// Its formats are not known, or not yet.
    Unknown {
        sent: Option<BuildId>,
        /// The connection has a fault that says so.
        is_reported: bool,
    },
}

impl DefmtDecoder {
    /// A decoder for a connection that has just begun.
    pub(in crate::payload) const fn new(defmt: Arc<Defmt>) -> Self {
        let firmware = Mutex::new(Sender::Unknown {
            sent: None,
            is_reported: false,
        });
        Self { defmt, firmware }
    }

    /// Decodes a message: a build id or a frame.
    pub(in crate::payload) fn read<'a>(&self, bytes: &'a [u8]) -> Result<Meaning<'a>, DecodeError> {
        let mut sender = self.firmware.lock().unwrap_or_else(PoisonError::into_inner);
        // A device that restarts, perhaps with another firmware, sends its id again: a serial line does not close.
        if let Some(sent) = BuildId::of_message(bytes) {
            let id = sent.to_string();
            let chosen = self.defmt.choose(Some(&sent));
            let known = match &chosen {
                Ok(firmware) => firmware.build.as_ref().map(|own| *own == sent),
                Err(_) => Some(false),
            };
            *sender = match chosen {
                Ok(firmware) => Sender::Known(firmware),
                Err(_) => Sender::Unknown {
                    sent: Some(sent),
                    is_reported: false,
                },
            };
            return Ok(Meaning::Build { id, known });
        }
        let firmware = match &mut *sender {
            Sender::Known(firmware) => Arc::clone(firmware),
            Sender::Unknown { sent, is_reported } => match self.defmt.choose(sent.as_ref()) {
                // The separator that defmt's encoder writes first; a build id may follow.
                Ok(firmware) if firmware.separates(bytes) => return Ok(Meaning::Raw(b"")),
                Err(_) if sent.is_none() && rzcobs::trim(bytes).is_empty() => {
                    return Ok(Meaning::Raw(b""));
                }
                Ok(firmware) => {
                    if sent.is_none() {
                        self.defmt.warn_unchecked(&firmware);
                    }
                    *sender = Sender::Known(Arc::clone(&firmware));
                    firmware
                }
                Err(_) if *is_reported => return Err(DecodeError::Repeated),
                Err(missing) => {
                    *is_reported = true;
                    return Err(DecodeError::Invalid(missing.to_string()));
                }
            },
        };
        drop(sender);
        if firmware.separates(bytes) {
            return Ok(Meaning::Raw(b""));
        }
        LogFrame::read(firmware, bytes).map(Meaning::Log)
    }
}
