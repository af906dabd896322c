//! A server that lags: all that the leader of the stream has is read, each message once.

mod replica;

use std::sync::{Arc, Mutex};

use self::replica::{NONCE, Replica, stored_ns};
use super::*;
use crate::NatsOptions;
use crate::subject::Subjects;

/// A puller, and what its server was asked.
async fn puller(begin: Begin, end: Option<u64>, replica: Replica) -> (Puller, Arc<Mutex<Replica>>) {
    let (url, replica) = replica.serve();
    let options = NatsOptions {
        servers: vec![url],
        ..NatsOptions::default()
    };
    let nats = Nats::open(&options, "blocksd").await.unwrap();
    let selection = ReadSelection {
        subjects: Subjects::new("main"),
        devices: Vec::new(),
        has_events: false,
        begin,
        end,
        only_heads: false,
    };
    (Puller::new(nats, &selection), replica)
}

/// Reads a stream of ten messages to its end, or to another one. Returns the sequence numbers, and what the server was asked.
async fn read(begin: Begin, end: u64, replica: Replica) -> (Vec<u64>, Arc<Mutex<Replica>>) {
    let (mut puller, replica) = puller(begin, Some(end), replica).await;
    let mut read = Vec::new();
    loop {
        match puller.next().await.unwrap() {
            Pulled::Message(message) => read.push(message.sequence),
            Pulled::End => break,
            other => panic!("{other:?}"),
        }
    }
    puller.close().await;
    (read, replica)
}

/// A replica that has got to these messages at each pull.
fn lagging(has: &[&[u64]]) -> Replica {
    Replica {
        leader: vec![10],
        has: has.iter().map(|it| it.to_vec()).collect(),
        ..Replica::default()
    }
}

#[tokio::test]
async fn a_server_that_lags_is_waited_for() {
    let all: Vec<_> = (1..=10).collect();
    for has in [&[0, 0, 10][..], &[3, 3, 3, 7, 7, 10], &[9, 10], &[10]] {
        let (read, replica) = read(Begin::First, 10, lagging(&[has])).await;
        assert_eq!(read, all, "{has:?}");
        assert_eq!(replica.lock().unwrap().made, 1);
    }
}

#[tokio::test]
async fn a_login_learns_before_the_first_message_whether_it_may_ask_for_a_consumer() {
    let (_, replica) = read(Begin::First, 10, lagging(&[&[10]])).await;
    assert_eq!(replica.lock().unwrap().asked_after[0], 1);
}

/// Reads without an end, until everything is read.
async fn read_until_caught_up(mut puller: Puller) -> Vec<u64> {
    let mut read = Vec::new();
    while !puller.has_caught_up() {
        match puller.next().await.unwrap() {
            Pulled::Message(message) => read.push(message.sequence),
            Pulled::Waiting => {}
            other => panic!("{other:?}"),
        }
    }
    read
}

#[tokio::test]
async fn a_server_that_stays_behind_is_left_for_another() {
    let (read, replica) = read(Begin::First, 10, lagging(&[&[3], &[10]])).await;
    assert_eq!(read, (1..=10).collect::<Vec<_>>());
    let replica = replica.lock().unwrap();
    let removals = ["c1", "c2"].map(|it| format!("CONSUMER.DELETE.blocksd.{it}"));
    assert_eq!((replica.made, &replica.removals[..]), (2, &removals[..]));
}

#[tokio::test]
async fn a_reader_without_an_end_leaves_a_server_that_goes_on_lagging() {
    // The second one begins with message 3 again.
    let (puller, replica) = puller(Begin::First, None, lagging(&[&[3], &[2, 10]])).await;
    let read = read_until_caught_up(puller).await;
    assert_eq!(read, (1..=10).collect::<Vec<_>>());
    assert_eq!(replica.lock().unwrap().made, 2);
}

#[tokio::test]
async fn nothing_before_the_beginning_is_read_from_a_server_that_lags() {
    // It begins with message 4, and with message 6 after that.
    let replica = lagging(&[&[3, 3, 5], &[5, 10]]);
    let (read, _) = read(Begin::Sequence(8), 10, replica).await;
    assert_eq!(read, [8, 9, 10]);
}

#[tokio::test]
async fn a_new_leader_that_has_not_applied_everything_is_waited_for() {
    let replica = Replica {
        leader: vec![3, 3, 3, 10],
        ..lagging(&[&[3, 3, 3, 3, 10]])
    };
    let (read, _) = read(Begin::First, 10, replica).await;
    assert_eq!(read, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn messages_that_were_deleted_are_not_waited_for() {
    let replica = Replica {
        kept: Some(3),
        ..lagging(&[&[3]])
    };
    let (from_first, _) = read(Begin::First, 10, replica).await;
    assert_eq!(from_first, [1, 2, 3]);
    let replica = Replica {
        kept: Some(0),
        ..lagging(&[&[0]])
    };
    let (none, replica) = read(Begin::First, 10, replica).await;
    assert_eq!((none.len(), replica.lock().unwrap().made), (0, 0));
}

#[tokio::test]
async fn messages_that_are_removed_before_they_are_read_are_counted() {
    // After message 3 is delivered, those before the other one are removed: some that were read, the next ones, or all.
    let cases = [
        (3, None),
        (4, None),
        (8, Some((4, 7, 4))),
        (11, Some((4, 10, 7))),
    ];
    for (first, expected) in cases {
        for end in [Some(10), None] {
            let replica = Replica {
                removes: Some((3, first)),
                ..lagging(&[&[10]])
            };
            let (mut puller, _) = puller(Begin::First, end, replica).await;
            let (mut sequences, mut all) = (Vec::new(), Vec::new());
            while !puller.has_caught_up() {
                match puller.next().await.unwrap() {
                    Pulled::Message(message) => sequences.push(message.sequence),
                    Pulled::Removed(it) => all.push((it.first, it.last, it.count)),
                    Pulled::Waiting => {}
                    Pulled::End => break,
                    Pulled::Broken(sequence) => panic!("{sequence}"),
                }
            }
            let rest = first.max(4)..=10;
            assert_eq!(sequences, (1..=3).chain(rest).collect::<Vec<_>>());
            // A reader without an end learns it from the next message.
            let is_known = end.is_some() || first <= 10;
            let expected: Vec<_> = expected.into_iter().filter(|_| is_known).collect();
            assert_eq!(all, expected, "{first} {end:?}");
        }
    }
}

#[tokio::test]
async fn everything_is_read_if_the_leader_knows_no_last_message() {
    for from in [1, 4] {
        let replica = Replica {
            hides_last: true,
            ..lagging(&[&[10]])
        };
        let (read, _) = read(Begin::Sequence(from), 10, replica).await;
        assert_eq!(read, (from..=10).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_range_of_time_is_read_if_the_leader_knows_no_last_message() {
    for (first, last) in [
        (1, 10),
        (2, 10),
        (5, 10),
        (10, 10),
        (11, 10),
        (7, 7),
        (8, 7),
    ] {
        let replica = Replica {
            hides_last: true,
            kept: Some(last),
            ..lagging(&[&[last]])
        };
        for time in [stored_ns(first), stored_ns(first) - 1] {
            let (read, replica) = read(Begin::Stored(time), 10, replica.clone()).await;
            assert_eq!(read, (first..=last).collect::<Vec<_>>());
            let is_made = usize::from(first <= last);
            assert_eq!(replica.lock().unwrap().made, is_made, "{first} {last}");
        }
    }
    // A reader without an end waits for a server that lags.
    let replica = Replica {
        hides_last: true,
        ..lagging(&[&[3], &[10]])
    };
    let (puller, _) = puller(Begin::Stored(stored_ns(6)), None, replica).await;
    let read = read_until_caught_up(puller).await;
    assert_eq!(read, [6, 7, 8, 9, 10]);
}

/// Reads a stream whose first server stays at message 3, where the reader has read a message with this nonce.
async fn read_after(nonce: u64, end: Option<u64>, replica: Replica) -> Result<u64, ReadError> {
    let (mut puller, _) = puller(Begin::First, end, replica).await;
    loop {
        match puller.next().await? {
            Pulled::Message(message) if message.sequence == 10 => return Ok(10),
            Pulled::Message(message) => puller.note_read(Newest {
                sequence: message.sequence,
                nonce,
            }),
            Pulled::End => return Ok(0),
            Pulled::Waiting => {}
            other @ (Pulled::Broken(_) | Pulled::Removed(_)) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_that_has_lost_what_was_read_is_an_error() {
    let replica = || lagging(&[&[3], &[10]]);
    for end in [Some(10), None] {
        assert!(matches!(read_after(NONCE, end, replica()).await, Ok(10)));
        let lost = read_after(NONCE + 1, end, replica()).await;
        assert!(
            matches!(&lost, Err(ReadError::Lost { stream, sequence: 3 }) if stream == "blocksd"),
            "{lost:?}"
        );
        // It was removed on purpose.
        let purged = Replica {
            is_purged: true,
            ..replica()
        };
        let purged = read_after(NONCE + 1, end, purged).await;
        assert!(matches!(purged, Ok(10)), "{purged:?}");
    }
    // The stream has got shorter.
    let short = Replica {
        leader: vec![10, 2],
        ..lagging(&[&[3]])
    };
    let lost = read_after(NONCE, Some(10), short).await;
    assert!(
        matches!(lost, Err(ReadError::Lost { sequence: 3, .. })),
        "{lost:?}"
    );
}

#[tokio::test]
async fn the_last_message_of_a_subject_is_read_even_if_it_is_after_the_end() {
    let (last, _) = read(Begin::LastOfEach, 9, lagging(&[&[10]])).await;
    assert_eq!(last, [10]);
    // A server that lags has an earlier one.
    let (last, _) = read(Begin::LastOfEach, 9, lagging(&[&[7, 7, 9]])).await;
    assert_eq!(last, [7, 8, 9]);
}

#[tokio::test]
async fn all_is_read_if_a_server_does_not_deliver_the_last_messages() {
    let replica = Replica {
        stalls: true,
        ..lagging(&[&[10]])
    };
    let (all, _) = read(Begin::LastOfEach, 9, replica).await;
    assert_eq!(all, (1..=9).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_consumer_is_removed_although_the_cluster_does_not_know_it_yet() {
    let replica = Replica {
        unknown: 2,
        ..lagging(&[&[10]])
    };
    let (_, replica) = read(Begin::First, 10, replica).await;
    let removals = ["CONSUMER.DELETE.blocksd.c1"; 3];
    assert_eq!(replica.lock().unwrap().removals, removals);
}
