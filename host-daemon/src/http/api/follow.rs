//! Entries as lines that come over time: [`follow`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::http::api::query::ENTRIES;
use crate::recorded::time::Time;
use crate::view::{EntriesAnswer, EntriesQuery, EntryKind, View};

/// Lines that wait for the client, in parts.
const QUEUE_LEN: usize = 1;
/// Time after which a client that reads nothing loses its connection.
const STALLED: Duration = Duration::from_secs(30);
/// Interval between two empty lines, which show that the connection works.
const ALIVE: Duration = Duration::from_secs(15);
/// Interval at which the devices are noted as watched.
const WATCH: Duration = Duration::from_secs(1);
/// The least time between two parts.
const PART: Duration = Duration::from_millis(50);

/// Lines that come over time.
#[derive(Debug)]
pub(in crate::http) struct Followed {
    /// The lines.
    pub(in crate::http) lines: mpsc::Receiver<Bytes>,
    /// Exists while lines are sent.
    pub(in crate::http) sending: Weak<()>,
}

/// Sends the entries of a request, and those that come, until the client goes away, or reads nothing.
pub(super) fn follow(view: Arc<View>, mut query: EntriesQuery) -> Followed {
    let (lines, body) = mpsc::channel(QUEUE_LEN);
    let sending = Arc::new(());
    let followed = Followed {
        lines: body,
        sending: Arc::downgrade(&sending),
    };
    // What comes after the answer has begun belongs to it. What was not shown before is of no interest.
    let mut not_shown = view.watch(&query.filter.devices);
    if query.limit == 0 && query.after.is_none() {
        query.after = Some(view.newest(query.kind));
    }
    if query.after.is_some() {
        query.limit = ENTRIES.0;
    }
    tokio::spawn(async move {
        let _sending = sending;
        let mut changes = view.changes();
        let mut sent = Instant::now();
        loop {
            changes.mark_unchanged();
            let EntriesAnswer {
                lines: entries,
                next,
                lost,
                not_shown: now,
                has_more,
            } = select(&view, &query).await;
            (query.after, query.limit) = (Some(next), ENTRIES.0);
            let missing = lost.unwrap_or_default() + now.saturating_sub(not_shown);
            not_shown = now;
            let mut part = Vec::new();
            if missing != 0 {
                part.extend_from_slice(lost_line(query.kind, missing).as_bytes());
            }
            for entry in entries {
                part.extend_from_slice(&entry);
                part.push(b'\n');
            }
            if part.is_empty() && ALIVE < sent.elapsed() {
                part.push(b'\n');
            }
            if !part.is_empty() {
                match timeout(STALLED, lines.send(part.into())).await {
                    Ok(Ok(())) => sent = Instant::now(),
                    // The client has gone away, or reads nothing.
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            if has_more {
                continue;
            }
            tokio::select! {
                () = lines.closed() => return,
                // The devices are noted as watched again.
                _ = timeout(WATCH, changes.changed()) => {}
            }
            tokio::time::sleep(PART).await;
        }
    });
    followed
}

/// Selects entries on another thread: a filter may have to look at all that are kept.
async fn select(view: &Arc<View>, query: &EntriesQuery) -> EntriesAnswer {
    let (view, mut query) = (Arc::clone(view), query.clone());
    let (after, not_shown) = (query.after.unwrap_or_default(), 0);
    let selected = tokio::task::spawn_blocking(move || view.entries(&mut query)).await;
    // The daemon ends.
    selected.unwrap_or_else(|_| EntriesAnswer {
        lines: Vec::new(),
        next: after,
        lost: None,
        not_shown,
        has_more: false,
    })
}

/// The event of entries that are not shown.
fn lost_line(kind: EntryKind, missing: u64) -> String {
    let time = Time(std::time::SystemTime::now());
    let (blocks, events) = match kind {
        EntryKind::Messages => (missing, 0),
        EntryKind::Faults | EntryKind::Events => (0, missing),
    };
    format!("{{\"event\":\"lost\",\"time\":\"{time}\",\"blocks\":{blocks},\"events\":{events}}}\n")
}

#[cfg(test)]
mod tests {
    use blocksd_engine::device::DeviceRegistry;

    use super::*;
    use crate::view::EntryFilter;

    fn followed(kind: EntryKind) -> Followed {
        let view = View::new(DeviceRegistry::new(10), None, None);
        let query = EntriesQuery {
            kind,
            filter: EntryFilter::default(),
            after: None,
            limit: 0,
            max_bytes: 1000,
            has_hex: false,
        };
        follow(view, query)
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_line_shows_that_the_connection_works() {
        let mut followed = followed(EntryKind::Messages);
        let started = Instant::now();
        for number in 1..10 {
            assert_eq!(followed.lines.recv().await.as_deref(), Some(&b"\n"[..]));
            let passed = started.elapsed();
            assert!(
                number * ALIVE <= passed && passed < number * (ALIVE + 2 * WATCH),
                "{passed:?}"
            );
        }
        assert_eq!(followed.sending.strong_count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up() {
        let Followed { mut lines, sending } = followed(EntryKind::Faults);
        tokio::time::sleep(2 * ALIVE).await;
        assert_eq!(sending.strong_count(), 1);
        // Two lines wait at most: one in the queue, and one on its way there.
        tokio::time::sleep(3 * ALIVE + STALLED).await;
        assert_eq!(sending.strong_count(), 0);
        assert!(lines.recv().await.is_some() && lines.recv().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_to_a_client_that_has_gone() {
        let Followed { lines, sending } = followed(EntryKind::Events);
        tokio::time::sleep(WATCH).await;
        drop(lines);
        // It may be looking for entries, or pausing after a part.
        tokio::time::sleep(WATCH).await;
        assert_eq!(sending.strong_count(), 0);
    }

    #[test]
    fn what_is_lost_is_counted_by_its_kind() {
        let of =
            |kind| serde_json::from_str::<serde_json::Value>(&lost_line(kind, 7)).expect("JSON");
        let (messages, faults) = (of(EntryKind::Messages), of(EntryKind::Faults));
        assert_eq!(
            (&messages["blocks"], &messages["events"]),
            (&7.into(), &0.into())
        );
        assert_eq!(
            (&faults["blocks"], &faults["events"]),
            (&0.into(), &7.into())
        );
        assert_eq!(messages["event"], "lost");
    }
}
