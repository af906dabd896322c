//! Compares the delivery report with the samples that arrived, wherever the server closes and whenever it replies.

use crate::application::{PLAN, application};
use crate::support::{Ending, Fate, Server, Time};
use firmware_example::Plan;
use framing_uplink::SeriesReport;

/// Asserts that every planned sample is counted exactly once, and that the number that arrived is between `delivered`
/// and `delivered + in_doubt`.
#[track_caller]
pub(crate) fn assert_honest(report: SeriesReport, planned: u32, arrived: usize) {
    let SeriesReport {
        delivered,
        in_doubt,
        lost,
        ..
    } = report;
    assert_eq!(delivered + in_doubt + lost, planned, "{report:?}");
    let arrived = arrived as u32;
    assert!(
        (delivered..=delivered + in_doubt).contains(&arrived),
        "{arrived} arrived, {report:?}"
    );
}

#[test]
fn wherever_the_server_closes_the_report_agrees_with_what_arrived() {
    let time = Time::default();
    let whole = Server::new(&time, &[], Fate::Lives);
    application::<896>(&time, PLAN, &whole);
    let wire_len = whole.wires.borrow()[0].len();
    // More than two connections that close within eight blocks.
    let plan = Plan {
        samples: Some(30),
        ..PLAN
    };
    for arrive in 0..wire_len {
        for unseen in [0, 1, 70, 200] {
            let time = Time::default();
            let closes = Fate::Closes { arrive, unseen };
            let server = Server::new(&time, &[closes; 2], Fate::Lives).with_receipts();
            let report = application::<7168>(&time, plan, &server);
            let (samples, endings) = server.received();
            let context = format!("{report:?}, closed after {arrive} bytes, {unseen} unseen");
            assert_honest(report, 30, samples.len());
            assert_eq!((report.connections, report.lost), (3, 0), "{context}");
            assert!(report.answered, "{context}");
            assert_eq!(endings.last(), Some(&Ending::Mark), "{context}");
            let numbers = samples.iter().map(|sample| sample["n"]);
            assert!(numbers.is_sorted_by(|one, other| one < other), "{context}");
            // Only the blocks that a connection takes after it was closed, and the block that was cut, are missing.
            let missing = 30 - samples.len();
            assert!(missing <= 2 * (2 + unseen / 80), "{context}");
        }
    }
}

#[test]
fn a_close_is_noticed_before_the_next_block_even_with_samples_queued() {
    let time = Time::default();
    // The samples of an outage are queued when the server accepts; it closes after the first block.
    let closes = Fate::Closes {
        arrive: 100,
        unseen: 0,
    };
    let mut fates = vec![Fate::Refused; 4];
    fates.extend([closes; 3]);
    let server = Server::new(&time, &fates, Fate::Lives).with_receipts();
    let plan = Plan {
        stop_ms: 60_000,
        ..PLAN
    };
    let report = application::<7168>(&time, plan, &server);
    let (samples, _) = server.received();
    assert_honest(report, 8, samples.len());
    // Each of the three connections delivers one block, and loses the one that it cut.
    assert_eq!((report.in_doubt, samples.len()), (6, 5), "{report:?}");
}

#[test]
fn a_receipt_is_compared_with_the_data_that_was_sent() {
    let receipts: [(&[u8], _); 9] = [
        // Two of eight blocks were refused.
        (br#"{"blocks":6,"bytes":500}"#, (6, 0, 2)),
        (br#"{"blocks":0,"bytes":0}"#, (0, 0, 8)),
        // Receipts of another series: more blocks, or equally many with other bytes, or fewer with equally many bytes.
        (br#"{"blocks":9,"bytes":700}"#, (0, 8, 0)),
        (br#"{"blocks":8,"bytes":1}"#, (0, 8, 0)),
        (br#"{"blocks":7,"bytes":9999}"#, (0, 8, 0)),
        // Replies that are not a receipt.
        (br#"{"blocks":8}"#, (0, 8, 0)),
        (br#"{"blocks":,"bytes":}"#, (0, 8, 0)),
        (br#"{"blocks":99999999999999999999,"bytes":1}"#, (0, 8, 0)),
        (b"ok", (0, 8, 0)),
    ];
    for (text, (delivered, in_doubt, lost)) in receipts {
        let time = Time::default();
        let answer = [&[0, 0, 0, text.len() as u8], text, &[0; 4]].concat();
        let server = Server::new(&time, &[], Fate::Lives).answering(&answer);
        let report = application::<1792>(&time, PLAN, &server);
        let wanted = SeriesReport {
            delivered,
            in_doubt,
            lost,
            connections: 1,
            ended: true,
            answered: true,
        };
        assert_eq!(report, wanted, "{}", String::from_utf8_lossy(text));
    }
}
