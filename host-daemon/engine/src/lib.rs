#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod admission;
pub mod batch;
pub mod certificate;
pub mod connection;
pub mod counters;
pub mod device;
pub mod engine;
pub mod error;
pub mod event;
pub mod limit;
pub mod listen;
pub mod metrics;
pub mod moment;
pub mod origin;
pub mod peer_log;
pub mod permit;
pub mod pool;
pub mod reason;
pub mod session;
pub mod sink;
pub mod stdio;
pub mod tls;

pub use self::engine::{
    Applied, Builder, DeviceCollector, Engine, EngineCollector, EngineHandle, ListenerSpec,
    Listening, Settings,
};
pub use self::error::Error;
