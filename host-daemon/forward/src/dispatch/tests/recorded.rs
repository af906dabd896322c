//! Messages of a recording, and random ones.

use std::collections::HashMap;
use std::sync::Arc;

use blocksd_recording::FileNonce;

use super::chance::Chance;
use super::{BODY_MAX, DEVICES, Recording, channel};
use crate::batch::{Batch, Channel, ReadMessage};
use crate::place::{Instance, Place};

/// A message of a recording: its file, its device, its connection and number there, and its payload.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) file: (u64, FileNonce),
    pub(super) before: u64,
    pub(super) subject: Arc<str>,
    pub(super) channel: Arc<Channel>,
    pub(super) connection: u64,
    pub(super) seq: u64,
    /// The first of the numbers right before its own that have no message.
    pub(super) since: u64,
    pub(super) time: u64,
    pub(super) data: Vec<u8>,
}

impl Recorded {
    /// As it is read, in this order.
    pub(super) fn read(&self, order: u64) -> ReadMessage<'_> {
        ReadMessage {
            subject: &self.subject,
            channel: &self.channel,
            connection: self.connection,
            seq: self.seq,
            file: self.file,
            before: self.before,
            order,
            time: self.time,
            data: &self.data,
        }
    }
}

impl Recording {
    pub(super) fn new(name: u64, len: usize, chance: &mut Chance) -> Self {
        let channel = channel("device", None);
        let mut next: HashMap<(u64, u64), u64> = HashMap::new();
        let (mut number, mut before, mut time) = (1, 0, 1_000_000_000);
        let mut file = (number, FileNonce::new());
        let messages = (0..len).map(|index| {
            if chance.is(20) {
                number += 1;
                before = 0;
                file = (number, FileNonce::new());
            }
            time += chance.below(3) * 1000;
            let device = chance.below(DEVICES);
            let connection = 1 + chance.below(2);
            let seq = next.entry((device, connection)).or_default();
            *seq += 1;
            let len = match chance.is(10) {
                true => BODY_MAX + chance.below(500) as usize,
                false => chance.below(60) as usize,
            };
            let mut data = format!("{name} {index} ").into_bytes();
            data.resize(data.len() + len, b'.');
            before += 1;
            Recorded {
                file,
                before: before - 1,
                subject: format!("device.{device}").into(),
                channel: Arc::clone(&channel),
                connection,
                seq: *seq - 1,
                since: *seq - 1,
                time,
                data,
            }
        });
        let messages = messages.collect();
        Self {
            instance: Instance::random(),
            messages,
        }
    }

    /// Batches of the messages after a place, cut at random.
    pub(super) fn batches(&self, from: Option<Place>, chance: &mut Chance) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut order = 0;
        for it in &self.messages {
            let (number, nonce) = it.file;
            let at = Place {
                number,
                nonce,
                messages: it.before,
                bytes: 0,
            };
            if from.is_some_and(|from| at < Place { bytes: 0, ..from }) {
                continue;
            }
            let message = it.read(order);
            order += 1;
            let last = batches
                .iter_mut()
                .rfind(|batch| batch.subject == it.subject);
            if let Some(last) = last
                && !chance.is(3)
                && last.push(&message, BODY_MAX)
            {
                continue;
            }
            if BODY_MAX < 4 + it.data.len() {
                let parts = Batch::parts(&message, BODY_MAX);
                order += parts.len() as u64;
                batches.extend(parts.into_iter().map(|part| part.with_gap(it.since)));
            } else {
                batches.push(Batch::new(&message).with_gap(it.since));
            }
        }
        batches.sort_by_key(|batch| batch.order);
        batches
    }
}
