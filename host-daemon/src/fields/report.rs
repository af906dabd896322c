//! Lines about messages that an output of fields leaves out.

use std::fmt;

use crate::cli::{TimeField, TimeUnit};
use crate::escape::printable;
use crate::fields::columns::NAME_MAX;
use crate::output::counted;
use crate::service::log::print_status;

/// Prints a line.
pub(crate) fn report(line: impl fmt::Display) {
    print_status(format_args!("blocksd: {}", printable(line)));
}

/// Reports messages that cannot be decoded, and why the first cannot, and pieces. `missing` says how they are missing.
pub(crate) fn report_messages(missing: &str, undecodable: (u64, Option<&str>), pieces: u64) {
    if let (count, Some(first)) = undecodable {
        let count = counted(count, "message");
        report(format_args!(
            "{missing}: {count} that cannot be decoded; the first: {first}"
        ));
    }
    if pieces != 0 {
        let count = counted(pieces, "piece");
        report(format_args!(
            "{missing}: {count} of messages that were not received whole"
        ));
    }
}

/// Reports values of fields with long names, which have no column.
pub(crate) fn report_long_names(missing: &str, values: u64) {
    if values != 0 {
        let count = counted(values, "value");
        report(format_args!(
            "{missing}: {count} of fields with a name of more than {NAME_MAX} bytes"
        ));
    }
}

/// Reports messages without a time in a field. If it has the unit `default`, another one may be meant.
pub(crate) fn report_untimed(time: &TimeField, untimed: u64, default: TimeUnit) {
    if untimed == 0 {
        return;
    }
    let TimeField { field, unit } = time;
    let count = counted(untimed, "message");
    let hint = match *unit == default {
        true => format!("; another unit is named as in {field}:ms"),
        false => String::new(),
    };
    report(format_args!(
        "{count} without a time in {field:?}: the time of reception is used{hint}"
    ));
}
