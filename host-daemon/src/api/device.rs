//! One device with the fields of its messages, as `/api/v1/device` shows it: a [`DeviceView`].

use serde::{Deserialize, Serialize};

use crate::api::devices::DeviceReport;
use crate::recorded::time::Time;

/// A device and its fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// When the values were read.
    pub time: Time,
    /// The device.
    pub device: DeviceReport,
    /// How its messages are decoded, if that is known.
    pub encoding: Option<String>,
    /// Number of its newest connection.
    pub conn: Option<u64>,
    /// The other end of this connection.
    pub peer: Option<String>,
    /// Its newest session.
    pub session: Option<SessionView>,
    /// The fields are those of messages since then.
    pub since: Option<Time>,
    /// The fields, in the order in which they first occurred.
    pub fields: Vec<FieldView>,
    /// Number of fields that are not among them.
    pub fields_more: u64,
    /// As in [`Plot`](crate::api::plot::Plot::history).
    pub history: String,
}

/// A field of the messages of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldView {
    /// Its name, as that of a column.
    pub field: String,
    /// Whether most of its values are numbers.
    pub numeric: bool,
    /// Its last value, as text.
    pub last: String,
    /// Its least number.
    pub min: Option<f64>,
    /// Its greatest number.
    pub max: Option<f64>,
    /// Number of values.
    pub count: u64,
    /// Whether values over time are kept.
    pub plotted: bool,
}

/// An acknowledged session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its number, as 16 hexadecimal digits.
    pub session: String,
    /// Number of the first message that is not received.
    pub received: u64,
    /// Number of the first message that is not durable.
    pub durable: u64,
}
