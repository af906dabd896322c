//! The orders of devices in a list: [`DeviceOrder`].

use std::cmp::{Ordering, Reverse};

use crate::api::devices::urgency;
use blocksd_engine::device::DeviceSnapshot;

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

/// Sorts devices, and those that are equal by name.
pub(super) fn sort(devices: &mut [DeviceSnapshot], order: DeviceOrder) {
    let faults = |device: &DeviceSnapshot| device.faults.iter().sum::<u64>();
    devices.sort_unstable_by(|one, other| {
        let ordering = match order {
            DeviceOrder::Name => Ordering::Equal,
            DeviceOrder::Worst => {
                let rank = |it: &DeviceSnapshot| (urgency(it.state.as_str()), Reverse(faults(it)));
                rank(one).cmp(&rank(other))
            }
            DeviceOrder::Rate => other.messages_per_s.total_cmp(&one.messages_per_s),
            DeviceOrder::Faults => faults(other).cmp(&faults(one)),
            DeviceOrder::Last => other.last_seen.cmp(&one.last_seen),
        };
        ordering.then_with(|| one.device.cmp(&other.device))
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use blocksd_engine::device::{DeviceRegistry, DeviceState};

    use super::*;

    fn device(
        name: &str,
        state: DeviceState,
        faults: u64,
        rate: f64,
        seen_s: u64,
    ) -> DeviceSnapshot {
        let seen = UNIX_EPOCH + Duration::from_secs(seen_s);
        let registry = DeviceRegistry::new(0);
        let mut device = registry.open(&Arc::from(name), seen).snapshot();
        device.state = state;
        device.faults[0] = faults;
        device.messages_per_s = rate;
        device
    }

    #[test]
    fn devices_are_in_the_order_that_was_asked_for_and_then_by_name() {
        let devices = [
            device("a", DeviceState::Live, 9, 1.0, 5),
            device("b", DeviceState::Gone, 1, 0.0, 1),
            device("c", DeviceState::Silent, 0, 0.0, 3),
            device("d", DeviceState::Faulty, 2, 7.5, 4),
            device("e", DeviceState::Faulty, 3, 7.5, 5),
            device("f", DeviceState::Silent, 0, 0.5, 2),
        ];
        let mut reversed = devices.clone();
        reversed.reverse();
        for (order, want) in [
            (DeviceOrder::Name, "abcdef"),
            (DeviceOrder::Worst, "cfedba"),
            (DeviceOrder::Rate, "deafbc"),
            (DeviceOrder::Faults, "aedbcf"),
            (DeviceOrder::Last, "aedcfb"),
        ] {
            let mut devices = reversed.clone();
            sort(&mut devices, order);
            let names: String = devices.iter().map(|it| &*it.device).collect();
            assert_eq!(names, want, "{order:?}");
        }
    }
}
