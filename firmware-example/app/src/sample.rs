//! A telemetry sample and its encoding: one CBOR map (RFC 8949) with short text keys.

use core::convert::Infallible;

use framing_uplink::TAIL_MAX;
use minicbor::Encoder;
use minicbor::encode::Write;

/// The keys of the map, in the order in which they are sent. The README documents them. [`TIME_KEY`] may come before the last.
pub const KEYS: [&str; 11] = [
    "t",
    "n",
    "loop_us",
    "loop_max_us",
    "stack",
    "rx",
    "tx",
    "queue",
    "temp_sim",
    "press_sim",
    "lost",
];

/// The key of the host's time.
pub const TIME_KEY: &str = "time";

/// Length of the longest encoded sample, in bytes, with its tail.
pub const BLOCK_MAX: usize = block_max();

/// An encoded sample, without its [`tail`].
pub type Block = heapless::Vec<u8, BLOCK_MAX>;

/// The state of a machine at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// `t`: time since the machine was switched on, in milliseconds.
    pub uptime_ms: u64,
    /// `n`: number of the sample, from 0.
    pub number: u32,
    /// `loop_us`: duration of the previous sampling loop, from the time when it was due until its sample was queued,
    /// in microseconds.
    pub loop_us: u32,
    /// `loop_max_us`: the longest of these.
    pub loop_max_us: u32,
    /// `stack`: highest stack use since the start, in bytes.
    pub stack_bytes: u32,
    /// `rx`: Ethernet frames received.
    pub frames_received: u32,
    /// `tx`: Ethernet frames sent.
    pub frames_sent: u32,
    /// `queue`: number of samples that waited when this one was added, without it.
    pub queued: u32,
    /// `temp_sim`: a simulated temperature, in degrees Celsius.
    pub temperature_simulated_c: f32,
    /// `press_sim`: a simulated air pressure, in hectopascals.
    pub pressure_simulated_hpa: f32,
    /// `time`: the host's time of the sample, in ms since 1970 (UTC), if it is known.
    pub time_ms: Option<u64>,
}

enum Value {
    Count(u64),
    Real(f32),
}

impl Sample {
    /// Encodes the sample as a map that its [`tail`] ends.
    #[must_use]
    pub fn encode(&self) -> Block {
        let mut block = Block::new();
        // Cannot fail: the sink accepts everything, and has room for the longest values.
        let _ = self.write(&mut Encoder::new(Sink(&mut block)));
        block
    }

    fn write(&self, out: &mut Encoder<Sink<'_>>) -> Result<(), Error> {
        out.begin_map()?;
        for (key, value) in KEYS.iter().zip(self.values()) {
            out.str(key)?;
            match value {
                Value::Count(count) => out.u64(count)?,
                Value::Real(real) => out.f32(real)?,
            };
        }
        if let Some(time_ms) = self.time_ms {
            out.str(TIME_KEY)?.u64(time_ms)?;
        }
        Ok(())
    }

    fn values(&self) -> [Value; KEYS.len() - 1] {
        [
            Value::Count(self.uptime_ms),
            Value::Count(self.number.into()),
            Value::Count(self.loop_us.into()),
            Value::Count(self.loop_max_us.into()),
            Value::Count(self.stack_bytes.into()),
            Value::Count(self.frames_received.into()),
            Value::Count(self.frames_sent.into()),
            Value::Count(self.queued.into()),
            Value::Real(self.temperature_simulated_c),
            Value::Real(self.pressure_simulated_hpa),
        ]
    }
}

/// Ends the map of a sample with the number of samples that were lost before it, for a [`Tail`](framing_uplink::Tail).
pub fn tail(lost: u32, tail: &mut [u8; TAIL_MAX]) -> usize {
    let mut rest = &mut tail[..];
    let mut out = Encoder::new(&mut rest);
    let written = out.str("lost").and_then(|out| out.u32(lost));
    // Cannot fail: it takes 11 bytes.
    let _ = written.and_then(|out| out.end());
    let left = rest.len();
    TAIL_MAX.saturating_sub(left)
}

type Error = minicbor::encode::Error<Infallible>;

/// The output of the encoder. Drops the bytes that do not fit.
struct Sink<'a>(&'a mut Block);

impl Write for Sink<'_> {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        let _ = self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// The header and the end of the map and the header of each key take one byte, the longest number nine.
const fn block_max() -> usize {
    let mut len = 2 + 1 + TIME_KEY.len() + 9;
    let mut keys: &[&str] = &KEYS;
    while let [key, rest @ ..] = keys {
        len += 1 + key.len() + 9;
        keys = rest;
    }
    len
}
