//! Counts of a device that a HELLO names: connections, messages, gaps and reconnects.

use blocksd_engine::device::{DeviceSnapshot, DeviceState};

use crate::device::{Down, END, cont, hello, message};
use crate::host::Host;

fn only(host: &Host) -> DeviceSnapshot {
    let mut devices = host.handle.devices().list().devices;
    assert_eq!(devices.len(), 1, "{devices:?}");
    devices.remove(0)
}

#[tokio::test]
async fn a_connection_counts_for_the_device_that_its_hello_names() {
    let mut host = Host::auto().await;
    let mut first = host.connect().await;
    let session = first.open(0, 0, 3).await;
    first
        .send(&[
            &cont(session, 2),
            &message(b"two"),
            &message(b"three"),
            &END,
        ])
        .await;
    host.until(|host| host.ends == 1).await;
    let seen = only(&host);
    assert_eq!(&*seen.device, "boiler");
    assert_eq!((seen.messages, seen.bytes), (2, 8));
    assert_eq!((seen.gaps, seen.gap_messages), (1, 2));
    assert_eq!((seen.connections, seen.connections_total), (1, 1));
    assert_eq!((seen.reconnects, seen.state), (0, DeviceState::Live));
    // The same device on another connection, while the first one seems open.
    let mut second = host.connect().await;
    second.send(&[&hello(session, 4, 0, 0)]).await;
    assert!(matches!(second.read().await, Down::Welcome { .. }));
    host.until(|host| host.closed.len() == 1).await;
    let seen = only(&host);
    assert_eq!((seen.connections, seen.connections_total), (1, 2));
    assert_eq!((seen.reconnects, seen.state), (1, DeviceState::Live));
    // Nothing is left of the address.
    drop(second);
    host.until(|host| host.closed.len() == 2).await;
    let seen = only(&host);
    assert_eq!((&*seen.device, seen.state), ("boiler", DeviceState::Gone));
}
