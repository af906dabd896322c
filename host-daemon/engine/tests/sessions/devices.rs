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

#[tokio::test]
async fn a_session_leaves_the_plain_device_of_its_address_as_it_was() {
    let mut host = Host::auto().await;
    let mut plain = host.connect().await;
    plain.send(&[&message(b"plain")]).await;
    host.until(|host| host.plain.len() == 1).await;
    let before = only(&host);
    // While it is connected, and after that.
    for closed in 1..=4 {
        let mut device = host.connect().await;
        // A HELLO in two parts is not heard of the plain device, either.
        device.send_in_two(&hello(0, 0, 0, 0), 20).await;
        assert!(matches!(device.read().await, Down::Welcome { .. }));
        if closed == 2 {
            drop(plain);
            plain = device;
        } else {
            drop(device);
        }
        host.until_closed(closed).await;
        let devices = host.handle.devices().list().devices;
        let seen = devices.iter().find(|it| it.device == before.device);
        let seen = seen.expect("the plain device");
        assert_eq!((seen.connections_total, seen.reconnects), (1, 0));
        assert_eq!(seen.last_seen, before.last_seen, "{closed}");
        let is_gone = seen.state == DeviceState::Gone;
        assert_eq!(is_gone, 2 <= closed);
    }
}
