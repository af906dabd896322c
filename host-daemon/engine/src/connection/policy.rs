//! How the connections of a listener are treated: a [`Policy`], and [`Policies`] where devices have one of their own.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use framing_core::{AnyFraming, Limits};

use crate::batch::ClosePolicy;
use crate::connection::responder::Respond;
use crate::event::Encoding;

/// How one connection is treated.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How messages are framed, in both directions.
    pub framing: AnyFraming,
    /// How the payload of messages is encoded, for sinks that decode it.
    pub encoding: Encoding,
    /// How long a message may be.
    pub limits: Limits,
    /// Which results close the connection.
    pub close: ClosePolicy,
    /// How long a device may be silent, and a message and a reply may take.
    pub timeouts: Timeouts,
    /// What is sent back.
    pub reply: Option<ReplyKind>,
}

impl Policy {
    /// A policy with default limits (1 MiB for a message), no timeouts and no reply.
    #[must_use]
    pub fn new(framing: AnyFraming) -> Self {
        Self {
            framing,
            encoding: Encoding::default(),
            limits: Limits {
                block_max: 1 << 20,
                skip_max: Limits::SKIP_MAX,
            },
            close: ClosePolicy::default(),
            timeouts: Timeouts::default(),
            reply: None,
        }
    }
}

/// The policies of one listener.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use blocksd_engine::connection::policy::{Policies, Policy};
/// use framing_core::{AnyFraming, Blocks, Lines};
///
/// let lines = Arc::new(Policy::new(AnyFraming::Lines(Lines)));
/// let policies = Policies::from(Policy::new(AnyFraming::Blocks(Blocks))).with("logger", lines);
/// assert_eq!(policies.of("logger").framing, AnyFraming::Lines(Lines));
/// assert_eq!(policies.of("10.0.0.7").framing, AnyFraming::Blocks(Blocks));
/// ```
#[derive(Clone, Debug)]
pub struct Policies {
    default: Arc<Policy>,
    of_devices: HashMap<Arc<str>, Arc<Policy>>,
}

impl Policies {
    /// Adds the policy of one device.
    #[must_use]
    pub fn with(mut self, device: impl Into<Arc<str>>, policy: Arc<Policy>) -> Self {
        self.of_devices.insert(device.into(), policy);
        self
    }

    /// The policy of a device.
    #[must_use]
    pub fn of(&self, device: &str) -> &Arc<Policy> {
        self.of_devices.get(device).unwrap_or(&self.default)
    }

    /// The policy of a device that has none of its own.
    #[must_use]
    pub const fn default_policy(&self) -> &Arc<Policy> {
        &self.default
    }

    /// All of them, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        std::iter::once(&self.default).chain(self.of_devices.values())
    }
}

impl From<Policy> for Policies {
    fn from(policy: Policy) -> Self {
        Self {
            default: Arc::new(policy),
            of_devices: HashMap::new(),
        }
    }
}

/// The timeouts of a connection. There is no limit where a value is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a device may take to send its first byte.
    pub first_byte: Option<Duration>,
    /// How long a device may be silent.
    pub idle: Option<Duration>,
    /// How long the header of a message may take, from the message's first byte on.
    pub header: Option<Duration>,
    /// How long a whole message may take, from its first byte on.
    pub message: Option<Duration>,
    /// How long a peer may take to accept the next 64 KiB of a reply, or the rest of it.
    pub reply: Option<Duration>,
}

/// What is sent back to a device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReplyKind {
    /// How many messages and bytes were received whole, when the device has finished sending.
    Receipt,
    /// All messages that were received, when the device has finished sending.
    Echo,
    /// The content of a file as one message, when the device has finished sending.
    File(PathBuf),
    /// What a responder of the embedding program sends.
    Custom(Arc<dyn Respond>),
}

impl ReplyKind {
    /// Reads `receipt`, `echo`, or the name of a file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "receipt" => Self::Receipt,
            "echo" => Self::Echo,
            path => Self::File(path.into()),
        }
    }
}

impl fmt::Display for ReplyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receipt => f.write_str("receipt"),
            Self::Echo => f.write_str("echo"),
            Self::File(path) => path.display().fmt(f),
            Self::Custom(_) => f.write_str("custom"),
        }
    }
}
