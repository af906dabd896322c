//! A message of a recording, and which ones are wanted: [`Message`] and [`Wanted`].

use std::collections::BTreeMap;
use std::sync::Arc;

use mcap::records::Channel;

use crate::format::nonce::FileNonce;
use crate::format::origin::MessageOrigin;
use crate::format::record::{Kind, device};
use crate::read::position::TailPosition;

/// Selects messages by device and time.
///
/// # Examples
/// ```
/// use blocksd_recording::Wanted;
///
/// let wanted = Wanted { devices: vec!["10.0.0.7".to_owned()], ..Wanted::default() };
/// assert!(wanted.has("10.0.0.7") && !wanted.has("10.0.0.8"));
/// ```
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Messages of these devices. Empty for all devices.
    pub devices: Vec<String>,
    /// Messages received at this time or later, in nanoseconds since 1970.
    pub from: u64,
    /// Messages received before this time, in nanoseconds since 1970. The largest number is no limit, since messages
    /// after 2554 have it as their time.
    pub to: u64,
}

/// A channel, with the information from its topic and metadata.
#[derive(Debug)]
pub struct ChannelInfo {
    /// The record of the channel.
    pub record: Channel,
    /// The kind of its messages.
    pub kind: Kind,
    /// The device that sent its messages.
    pub device: Arc<str>,
    pub(super) is_wanted: bool,
}

/// A message of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The channel of the message.
    pub channel: &'a Arc<ChannelInfo>,
    /// Sequence number in the channel.
    pub sequence: u32,
    /// The connection that it came over, if that is recorded.
    pub origin: Option<MessageOrigin>,
    /// Time of reception, in nanoseconds since 1970.
    pub time: u64,
    /// The payload.
    pub data: &'a [u8],
    /// Number of the messages before it in its file, those that are not selected included. Those of lost chunks are included if
    /// the file has a summary that states them.
    pub index: u64,
    /// Offset in its file of the chunk that it is in, in bytes.
    pub offset: u64,
    /// Number and nonce of its file.
    pub(super) file: Option<&'a (u64, FileNonce)>,
}

impl ChannelInfo {
    /// Creates a channel for messages that are not read from a file.
    ///
    /// # Examples
    /// ```
    /// use blocksd_recording::ChannelInfo;
    /// use blocksd_recording::topic::Kind;
    ///
    /// let channel = ChannelInfo::new("/device/imu/blocks".to_owned(), [].into());
    /// assert_eq!((channel.kind, &*channel.device), (Kind::Blocks, "imu"));
    /// ```
    #[must_use]
    pub fn new(topic: String, metadata: BTreeMap<String, String>) -> Self {
        Self::of(
            Channel {
                id: 0,
                schema_id: 0,
                topic,
                message_encoding: String::new(),
                metadata,
            },
            |_| true,
        )
    }

    pub(super) fn of(record: Channel, is_wanted: impl FnOnce(&str) -> bool) -> Self {
        let kind = Kind::of(&record.topic);
        let device = device(&record);
        // Events and entries about sessions name their device themselves.
        let is_named_within = matches!(kind, Kind::Events | Kind::Sessions);
        let is_wanted = is_named_within || is_wanted(device);
        let device = device.into();
        Self {
            record,
            kind,
            device,
            is_wanted,
        }
    }
}

impl<'a> Message<'a> {
    /// Creates a message that is not read from a file.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use blocksd_recording::{ChannelInfo, Message, MessageOrigin};
    ///
    /// let channel = Arc::new(ChannelInfo::new("/device/imu/blocks".to_owned(), [].into()));
    /// let message = Message::new(&channel, 0, MessageOrigin::new(7, 0), 1_000_000_000, b"first");
    /// assert_eq!(message.position(), None);
    /// ```
    #[must_use]
    pub const fn new(
        channel: &'a Arc<ChannelInfo>,
        sequence: u32,
        origin: Option<MessageOrigin>,
        time: u64,
        data: &'a [u8],
    ) -> Self {
        Self {
            channel,
            sequence,
            origin,
            time,
            data,
            index: 0,
            offset: 0,
            file: None,
        }
    }
}

impl Message<'_> {
    /// Returns the place after the message: [`Tail::from_position`](crate::Tail::from_position) continues there with the next one.
    /// `None` if the file does not have the name of a file of a recording.
    ///
    /// # Examples
    /// ```
    /// use blocksd_recording::{Message, TailPosition};
    ///
    /// /// Whether a message comes after everything that was forwarded.
    /// fn is_new(message: &Message<'_>, forwarded: &TailPosition) -> bool {
    ///     message.position().is_none_or(|position| *forwarded < position)
    /// }
    /// # let _ = is_new;
    /// ```
    #[must_use]
    pub fn position(&self) -> Option<TailPosition> {
        self.file.map(|(number, nonce)| TailPosition {
            number: *number,
            nonce: *nonce,
            messages: self.index + 1,
        })
    }
}

impl Default for Wanted {
    /// All messages.
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            from: 0,
            to: u64::MAX,
        }
    }
}

impl Wanted {
    /// Returns whether messages of a device are wanted.
    #[must_use]
    pub fn has(&self, device: &str) -> bool {
        self.devices.is_empty() || self.devices.iter().any(|wanted| wanted == device)
    }

    /// Returns whether messages of this time are wanted.
    #[must_use]
    pub const fn has_time(&self, time: u64) -> bool {
        self.from <= time && (time < self.to || self.to == u64::MAX)
    }

    pub(super) const fn is_any_time(&self) -> bool {
        self.from == 0 && self.to == u64::MAX
    }
}
