//! Devices and their messages, as the engine passes them to the recorder: [`Fleet`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blocksd::recorded::to_log::EventWriter;
use blocksd_engine::batch::Batch;
use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, Peer, StreamPosition};
use blocksd_engine::pool::Span;
use blocksd_recording::LogError;
use clap::ValueEnum;
use framing_core::{AnyFraming, Blocks};

/// Content of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Content {
    /// JSON with two readings that change slowly, and a counter
    Json,
    /// 16-bit samples that move by at most 3
    Samples,
    /// Noise, which does not compress
    Noise,
}

/// Connected devices.
#[derive(Debug)]
pub(crate) struct Fleet {
    sources: Vec<Arc<ConnectionInfo>>,
    positions: Vec<StreamPosition>,
}

impl Fleet {
    /// Connects devices to a recorder.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn connect(
        writer: &mut EventWriter,
        devices: usize,
        time: SystemTime,
    ) -> Result<Self, LogError> {
        let sources = (1..).take(devices).map(|conn| {
            Arc::new(ConnectionInfo {
                conn,
                device: format!("10.0.{}.{}", conn >> 8, conn & 0xff).into(),
                framing: AnyFraming::Blocks(Blocks),
                encoding: Encoding::default(),
                first_seq: 0,
                session: None,
                certificate: None,
                stats: None,
            })
        });
        let fleet = Self {
            sources: sources.collect(),
            positions: vec![StreamPosition::default(); devices],
        };
        for source in &fleet.sources {
            let peer = Peer::Local(Arc::clone(&source.device));
            let (source, kind) = (Arc::clone(source), EventKind::Opened { peer });
            writer.event(&Event { source, time, kind })?;
        }
        Ok(fleet)
    }

    /// The next batch of device number `device`, counted modulo their number.
    pub(crate) fn event(&mut self, device: usize, time: SystemTime, batch: Arc<Batch>) -> Event {
        let device = device % self.sources.len();
        let position = self.positions[device];
        self.positions[device].pass_all(&batch);
        Event {
            source: Arc::clone(&self.sources[device]),
            time,
            kind: EventKind::Batch { batch, position },
        }
    }
}

/// Generates the messages of one device, the same in every run.
#[derive(Debug)]
pub(crate) struct Messages {
    content: Content,
    state: u64,
    sample: i16,
    number: u64,
}

impl Messages {
    pub(crate) fn new(content: Content, device: usize) -> Self {
        Self {
            content,
            state: (device as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            sample: 0,
            number: 0,
        }
    }

    /// Appends a message of `len` bytes.
    pub(crate) fn put(&mut self, len: usize, to: &mut Vec<u8>) {
        let end = to.len() + len;
        if self.content == Content::Json {
            let (t, h) = (self.step(), self.step());
            let reading = 2_000 + i32::from(t);
            let text = format!(
                r#"{{"n":{},"t":{}.{:02},"h":{}}}"#,
                self.number,
                reading / 100,
                reading % 100,
                400 + i32::from(h)
            );
            to.extend_from_slice(text.as_bytes());
            // Longer messages have more readings.
            while to.len() < end {
                let text = format!(r#",{{"v":{}}}"#, self.step());
                to.extend_from_slice(text.as_bytes());
            }
        }
        while to.len() < end {
            let sample = self.step();
            to.extend_from_slice(&sample.to_le_bytes());
        }
        to.truncate(end);
        self.number += 1;
    }

    fn step(&mut self) -> i16 {
        // Xorshift.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let [low, high, ..] = self.state.to_le_bytes();
        if self.content == Content::Noise {
            return i16::from_le_bytes([low, high]);
        }
        self.sample = self.sample.wrapping_add(i16::from(low % 7) - 3);
        self.sample
    }
}

/// A batch of one message.
pub(crate) fn one(bytes: Vec<u8>) -> Arc<Batch> {
    let span = Span::new(0, bytes.len());
    Arc::new(Batch::of_messages(bytes, vec![span]))
}

/// A batch of messages as they come in one read of the framing `blocks`: each after a header of 4 bytes.
pub(crate) fn full(messages: &mut Messages, len: usize, bytes: usize) -> Arc<Batch> {
    let count = (bytes / (len + 4)).max(1);
    let (mut read, mut spans) = (Vec::new(), Vec::new());
    for _ in 0..count {
        read.extend_from_slice(&[0; 4]);
        spans.push(Span::new(read.len(), read.len() + len));
        messages.put(len, &mut read);
    }
    Arc::new(Batch::of_messages(read, spans))
}

/// A point in simulated time.
pub(crate) fn at(seconds: f64) -> SystemTime {
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    begin + Duration::from_secs_f64(seconds)
}
