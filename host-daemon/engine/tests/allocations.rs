//! The path of a batch from bytes to sinks allocates per batch, and never per message.

use std::sync::Arc;
use std::time::SystemTime;

use allocation_counter::measure;
use blocksd_engine::batch::{Batch, ClosePolicy, WholeMessages};
use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, StreamPosition};
use blocksd_engine::pool::{ConnectionQuota, Pool};
use blocksd_engine::sink::fanout::Fanout;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Interest};
use framing_core::{AnyFraming, Blocks, Framing, Limits};

#[test]
fn a_batch_of_many_messages_allocates_as_often_as_one_of_few() {
    let pool = Pool::new();
    let mut fanout = Fanout::default();
    let mut one = fanout.add("one", Interest::All, Delivery::BACKPRESSURE);
    let mut two = fanout.add("two", Interest::All, Delivery::BACKPRESSURE);
    let source = Arc::new(ConnectionInfo {
        conn: 1,
        device: "device".into(),
        framing: AnyFraming::Blocks(Blocks),
        encoding: Encoding::default(),
        first_seq: 0,
        session: None,
        certificate: None,
        stats: None,
    });
    let mut allocations = |messages: u64| {
        let mut quota = ConnectionQuota::default();
        let mut decoder = source.framing.decoder();
        let mut found = 0;
        let counted = measure(|| {
            let mut buffer = pool.try_take(&quota).expect("a free buffer");
            for _ in 0..messages {
                buffer.parts_mut().0.extend(*b"\0\0\0\x04data");
            }
            let limits = Limits {
                block_max: 1 << 20,
                skip_max: 0,
            };
            let (kept, policy) = (WholeMessages::Kept, ClosePolicy::default());
            let decoded = Batch::decode(buffer, &mut decoder, &limits, policy, kept, &mut false);
            let mut batch = decoded.batch;
            assert!(batch.try_charge(&pool, &mut quota));
            let event = Event {
                source: Arc::clone(&source),
                time: SystemTime::now(),
                kind: EventKind::Batch {
                    batch: Arc::new(batch),
                    position: StreamPosition::default(),
                },
            };
            assert!(fanout.try_send(event).is_ok());
            for events in [&mut one, &mut two] {
                let Next::Event(event) = events.poll() else {
                    panic!("no event");
                };
                if let EventKind::Batch { batch, .. } = &event.kind {
                    found += batch.items().count() as u64;
                }
            }
        });
        assert_eq!(found, 2 * messages);
        counted.count_total
    };
    // The first batch takes a new buffer, whose list of spans grows by doubling.
    assert!(allocations(2000) < 40);
    let few = allocations(1);
    assert_eq!(few, allocations(10));
    assert_eq!(few, allocations(2000));
    assert!(few < 10, "{few} allocations for a batch");
}
