//! Typed payloads: `postcard` serialises a message, and `framing-core` marks where it ends.
//!
//! `cargo run -p framing-core --example payloads`

use std::error::Error;

use framing_core::blocking::{Reader, Writer};
use framing_core::{Length, Received, U16Le};
use serde::{Deserialize, Serialize};

/// Longest message, in bytes.
const MESSAGE_MAX: usize = 64;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Report<'a> {
    Temperature { sensor: u8, milli_celsius: i32 },
    Log(&'a str),
}

fn main() -> Result<(), Box<dyn Error>> {
    let reports = [
        Report::Temperature {
            sensor: 3,
            milli_celsius: -4250,
        },
        Report::Log("door opened"),
    ];

    // On the device: serialise into a buffer on the stack, then send.
    let mut writer = Writer::new(Vec::new(), Length::<U16Le>::new());
    for report in &reports {
        let mut memory = [0; MESSAGE_MAX];
        writer.send(postcard::to_slice(report, &mut memory)?)?;
    }
    let wire = writer.into_io();
    println!("{} bytes on the wire", wire.len());

    // On the host: the text of a report is borrowed from the reader's buffer, without a copy.
    let mut reader = Reader::new(&wire[..], Length::<U16Le>::new(), [0; MESSAGE_MAX]);
    let mut count = 0;
    while let Received::Message(bytes) = reader.receive()? {
        let report: Report<'_> = postcard::from_bytes(bytes)?;
        println!("{report:?}");
        assert_eq!(report, reports[count]);
        count += 1;
    }
    assert_eq!(count, reports.len());
    Ok(())
}

#[test]
fn the_example_runs() {
    main().unwrap();
}
