//! The values of fields over time, as `/api/v1/plot` shows them: a [`Plot`].

use serde::{Deserialize, Serialize};

use crate::recorded::time::Time;

/// Values of fields of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// When they were read.
    pub time: Time,
    /// The first time of the plot, in milliseconds since 1970.
    pub from_ms: i64,
    /// The last time of the plot: now.
    pub to_ms: i64,
    /// Width of a column, in milliseconds.
    pub step_ms: u64,
    /// Whether values from before somebody watched are shown: `none` (there is no recording), `loading`, `complete` or
    /// `partial`.
    pub history: String,
    /// The values of each field.
    pub series: Vec<PlotSeries>,
}

/// Values of a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlotSeries {
    /// The name of the field.
    pub field: String,
    /// Time in milliseconds since 1970, and value. Each column has its minimum and its maximum, in the order of their
    /// times. A point without a value is a gap.
    pub points: Vec<(i64, Option<f64>)>,
    /// Why there are no values.
    pub error: Option<String>,
}
