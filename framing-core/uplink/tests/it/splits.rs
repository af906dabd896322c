//! Writes and reads of every length.

use crate::cancel::messages;
use crate::errors::{series, session};
use crate::net::Script;

/// Longer than every message and frame.
const MOST: usize = 140;

#[test]
fn writes_and_reads_of_every_length_deliver_the_same_messages() {
    let wanted = messages(5);
    for max in 1..MOST {
        for (write_max, read_max) in [(max, MOST), (MOST, max), (max, max)] {
            let script = Script {
                write_max,
                read_max,
                ..Script::default()
            };
            let (report, arrived, ..) = series(&wanted, script);
            assert_eq!(arrived, wanted, "{script:?}");
            assert_eq!((report.delivered, report.connections), (5, 1));
            let (report, arrived, ..) = session(&wanted, script);
            assert_eq!(arrived, wanted, "{script:?}");
            assert_eq!((report.acknowledged, report.connections), (5, 1));
        }
    }
}
