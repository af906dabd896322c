//! How the connections of a listener are handled: a [`Policy`], or several for different devices ([`Policies`]).

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use framing_core::{AnyFraming, Limits};

use crate::batch::ClosePolicy;
use crate::connection::responder::Respond;
use crate::event::Encoding;

/// How a connection is handled.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use blocksd_engine::connection::policy::{Policy, ReplyKind, Timeouts};
/// use framing_core::{AnyFraming, Blocks};
///
/// let policy = Policy {
///     timeouts: Timeouts { idle: Some(Duration::from_secs(60)), ..Timeouts::default() },
///     reply: Some(ReplyKind::Receipt),
///     ..Policy::new(AnyFraming::Blocks(Blocks))
/// };
/// assert_eq!(policy.limits.block_max, 1 << 20);
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    /// Framing of messages, in both directions.
    pub framing: AnyFraming,
    /// Encoding of the payload, for sinks that decode it.
    pub encoding: Encoding,
    /// Limits on the length of messages, in bytes.
    pub limits: Limits,
    /// Which items close the connection, and how oversize messages are handled.
    pub close: ClosePolicy,
    /// Timeouts of the connection.
    pub timeouts: Timeouts,
    /// The reply that is sent to the device.
    pub reply: Option<ReplyKind>,
    /// Whether a device may open a session.
    pub sessions: SessionPolicy,
}

impl Policy {
    /// Creates a policy with default limits (1 MiB for a message), no timeouts and no reply.
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
            sessions: SessionPolicy::default(),
        }
    }
}

/// The policies of one listener: a default, and policies of devices that a
/// [`DeviceTable`](crate::admission::identity::DeviceTable) names. A connection that the table does not match has the
/// default policy, regardless of its identity.
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
/// assert_eq!(policies.of("pump").framing, AnyFraming::Blocks(Blocks));
/// ```
#[derive(Clone, Debug)]
pub struct Policies {
    default: Arc<Policy>,
    of_devices: HashMap<Arc<str>, Arc<Policy>>,
}

impl Policies {
    /// Sets the policy of the device with this name in the table.
    #[must_use]
    pub fn with(mut self, device: impl Into<Arc<str>>, policy: Arc<Policy>) -> Self {
        self.of_devices.insert(device.into(), policy);
        self
    }

    /// Returns the policy of the device with this name in the table, or the default.
    #[must_use]
    pub fn of(&self, device: &str) -> &Arc<Policy> {
        self.of_devices.get(device).unwrap_or(&self.default)
    }

    /// Returns the default policy.
    #[must_use]
    pub const fn default_policy(&self) -> &Arc<Policy> {
        &self.default
    }

    /// Iterates over all policies, the default first.
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

/// The timeouts of a connection. `None` disables a timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Time until the first byte must arrive.
    pub first_byte: Option<Duration>,
    /// Longest silence.
    pub idle: Option<Duration>,
    /// Time for the header of a message, from the first byte of the message.
    pub header: Option<Duration>,
    /// Time for a complete message, from its first byte.
    pub message: Option<Duration>,
    /// Time for the peer to accept the next 64 KiB of a reply, or the rest of it.
    pub reply: Option<Duration>,
}

/// Whether devices may open sessions, and how they are answered. Needs the framing `blocks`, and an engine with
/// [sessions](crate::engine::Builder::sessions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// Whether devices may open sessions.
    pub mode: SessionMode,
    /// Longest time from a sync to its acknowledgement. Rings that are half full are acknowledged at once.
    pub ack_interval: Duration,
    /// Longest time between two frames to the device, unless it wishes another.
    pub heartbeat: Duration,
}

impl Default for SessionPolicy {
    /// No sessions; acknowledgements every second, heartbeats every 30 s.
    fn default() -> Self {
        Self {
            mode: SessionMode::Off,
            ack_interval: Duration::from_secs(1),
            heartbeat: Duration::from_secs(30),
        }
    }
}

/// Whether devices may open sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionMode {
    /// Devices may not open sessions. An attempt is answered with the code `no_session`.
    #[default]
    Off,
    /// Devices may open a session, or send plain messages.
    Auto,
    /// Connections without a session are closed.
    Required,
}

impl SessionMode {
    /// All modes, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Off, Self::Auto, Self::Required];

    /// The name of the mode in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::Required => "required",
        }
    }
}

/// The reply to a device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReplyKind {
    /// The number of complete messages and of payload bytes, as JSON, after the device has finished sending.
    Receipt,
    /// All received messages, after the device has finished sending.
    Echo,
    /// The content of a file as one message, after the device has finished sending.
    File(PathBuf),
    /// Replies of the embedding program.
    Custom(Arc<dyn Respond>),
}

impl ReplyKind {
    /// How many series in a row must come back over a line as the replies that were sent, before they are taken for
    /// echoes of the line rather than series of the device. A device may well send again what was echoed to it.
    pub(crate) const fn echoes_in_a_row(&self) -> u32 {
        match self {
            Self::Receipt | Self::File(_) => 1,
            Self::Echo | Self::Custom(_) => 32,
        }
    }

    /// Parses `receipt` and `echo`. Any other text is the path of a file.
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
