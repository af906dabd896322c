//! The orders of devices in a list: [`DeviceOrder`].

use std::cmp::Reverse;

use crate::api::devices::{DeviceReport, urgency};

/// The order of devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceOrder {
    /// By name.
    #[default]
    Name,
    /// Those that are not well first: by state, then by faults.
    Worst,
    /// Those that send most first.
    Rate,
    /// Those with the most faults first.
    Faults,
    /// Those that were seen last first.
    Last,
}

/// Sorts devices that are in the order of their names.
pub(super) fn sort(devices: &mut [DeviceReport], order: DeviceOrder) {
    match order {
        // They are in this order.
        DeviceOrder::Name => {}
        DeviceOrder::Worst => devices.sort_by_cached_key(|device| {
            let urgency = device.state.as_deref().map(urgency);
            (urgency, Reverse(device.all_faults()))
        }),
        DeviceOrder::Rate => devices.sort_by(|one, other| {
            let rate = |device: &DeviceReport| device.messages_per_s.unwrap_or_default();
            rate(other).total_cmp(&rate(one))
        }),
        DeviceOrder::Faults => devices.sort_by_cached_key(|it| Reverse(it.all_faults())),
        DeviceOrder::Last => devices.sort_by_key(|device| Reverse(device.last_seen.0)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn device(name: &str, state: &str, faults: u64, rate: f64, seen_s: u64) -> DeviceReport {
        let seen = UNIX_EPOCH + Duration::from_secs(seen_s);
        let mut device = DeviceReport::new(name, seen);
        device.state = Some(state.to_owned());
        device.faults.insert("reset".to_owned(), faults);
        device.messages_per_s = Some(rate);
        device
    }

    #[test]
    fn devices_are_in_the_order_that_was_asked_for_and_then_by_name() {
        let devices = [
            device("a", "live", 9, 1.0, 5),
            device("b", "gone", 1, 0.0, 1),
            device("c", "silent", 0, 0.0, 3),
            device("d", "faulty", 2, 7.5, 4),
            device("e", "faulty", 3, 7.5, 5),
            device("f", "silent", 0, 0.5, 2),
        ];
        for (order, want) in [
            (DeviceOrder::Name, "abcdef"),
            (DeviceOrder::Worst, "cfedba"),
            (DeviceOrder::Rate, "deafbc"),
            (DeviceOrder::Faults, "aedbcf"),
            (DeviceOrder::Last, "aedcfb"),
        ] {
            let mut devices = devices.clone();
            sort(&mut devices, order);
            let names: String = devices.iter().map(|it| &*it.device).collect();
            assert_eq!(names, want, "{order:?}");
        }
    }
}
