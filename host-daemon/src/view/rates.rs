//! How many messages came in each second: [`Rates`].

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use blocksd_engine::device::DeviceList;

/// Seconds that are kept of each device.
pub(super) const SPARK_LEN: usize = 60;
/// Seconds that a value of the history is a mean of.
const HISTORY_STEP_S: u32 = 5;
/// Values of the history: ten minutes.
const HISTORY_LEN: usize = 120;
/// Weight of the last second in the rates.
const NEWEST: f64 = 0.3;

/// Messages of each device in each of the last seconds, and the rates of all devices together.
#[derive(Debug, Default)]
pub(super) struct Rates {
    devices: HashMap<Arc<str>, DeviceRate>,
    /// Ticks so far.
    ticks: u64,
    messages_per_s: Option<f64>,
    bytes_per_s: Option<f64>,
    history: VecDeque<f64>,
    /// Messages, and ticks, since the last value of the history.
    pending: (u64, u32),
}

#[derive(Debug)]
struct DeviceRate {
    messages: u64,
    bytes: u64,
    /// The last tick at which the device was known.
    seen: u64,
    /// A ring: the place of a second is its tick modulo the length.
    spark: [u32; SPARK_LEN],
}

impl Rates {
    /// Takes the counts of all devices. Call it once a second.
    pub(super) fn tick(&mut self, list: &DeviceList) {
        self.ticks += 1;
        let place = (self.ticks % SPARK_LEN as u64) as usize;
        let is_first = self.ticks == 1;
        let (mut messages, mut bytes) = (0, 0);
        for device in &list.devices {
            let known = self.devices.get_mut(&device.device);
            let rate = match known {
                Some(rate) => rate,
                None => {
                    // What a device had sent before the first tick belongs to no second.
                    let before = if is_first {
                        (device.messages, device.bytes)
                    } else {
                        (0, 0)
                    };
                    let new = DeviceRate {
                        messages: before.0,
                        bytes: before.1,
                        seen: 0,
                        spark: [0; SPARK_LEN],
                    };
                    self.devices
                        .entry(Arc::clone(&device.device))
                        .or_insert(new)
                }
            };
            let more = device.messages.saturating_sub(rate.messages);
            messages += more;
            bytes += device.bytes.saturating_sub(rate.bytes);
            (rate.messages, rate.bytes, rate.seen) = (device.messages, device.bytes, self.ticks);
            if let Some(second) = rate.spark.get_mut(place) {
                *second = u32::try_from(more).unwrap_or(u32::MAX);
            }
        }
        let ticks = self.ticks;
        self.devices.retain(|_, rate| rate.seen == ticks);
        if is_first {
            return;
        }
        mix(&mut self.messages_per_s, messages);
        mix(&mut self.bytes_per_s, bytes);
        self.pending.0 += messages;
        self.pending.1 += 1;
        if self.pending.1 == HISTORY_STEP_S {
            let mean = self.pending.0 as f64 / f64::from(HISTORY_STEP_S);
            self.pending = (0, 0);
            if self.history.len() == HISTORY_LEN {
                self.history.pop_front();
            }
            self.history.push_back(mean);
        }
    }

    /// Messages in each of the last seconds, the oldest first.
    pub(super) fn spark(&self, device: &str) -> Vec<u64> {
        let Some(rate) = self.devices.get(device) else {
            return vec![0; SPARK_LEN];
        };
        let newest = (self.ticks % SPARK_LEN as u64) as usize;
        let (newer, older) = rate.spark.split_at(newest + 1);
        older
            .iter()
            .chain(newer)
            .map(|count| (*count).into())
            .collect()
    }

    /// Messages and bytes a second, of all devices.
    pub(super) fn now(&self) -> (f64, f64) {
        (tenths(self.messages_per_s), tenths(self.bytes_per_s))
    }

    /// Messages a second in the last ten minutes, the oldest first.
    pub(super) fn history(&self) -> Vec<f64> {
        self.history.iter().copied().collect()
    }
}

/// Adds the count of the last second to a rate.
pub(super) fn mix(former: &mut Option<f64>, now: u64) {
    let now = now as f64;
    *former = Some(former.map_or(now, |former| former * (1.0 - NEWEST) + now * NEWEST));
}

/// A rate as it is shown.
pub(super) fn tenths(rate: Option<f64>) -> f64 {
    (rate.unwrap_or_default() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use blocksd_engine::device::DeviceRegistry;

    use super::*;

    #[test]
    fn each_second_has_its_messages_and_the_oldest_are_forgotten() {
        let registry = DeviceRegistry::new(0);
        let device = registry.open(&Arc::from("imu"), SystemTime::now());
        device.batch(1000, 1000, SystemTime::now());
        let mut rates = Rates::default();
        rates.tick(&registry.list());
        for second in 1..=70 {
            device.batch(second, 10 * second, SystemTime::now());
            rates.tick(&registry.list());
        }
        let want: Vec<_> = (11..=70).collect();
        assert_eq!(rates.spark("imu"), want);
        let (messages, bytes) = rates.now();
        assert!((60.0..70.0).contains(&messages), "{messages}");
        assert!((bytes / messages - 10.0).abs() < 0.1, "{bytes}");
        assert_eq!(rates.history().len(), 14);
        assert_eq!(rates.history()[0], 3.0);
    }

    #[test]
    fn a_device_that_is_dropped_is_forgotten() {
        let registry = DeviceRegistry::new(0);
        let mut rates = Rates::default();
        let device = registry.open(&Arc::from("imu"), SystemTime::now());
        rates.tick(&registry.list());
        device.batch(7, 7, SystemTime::now());
        rates.tick(&registry.list());
        assert_eq!(rates.devices.len(), 1);
        rates.tick(&DeviceList::default());
        assert_eq!(rates.devices.len(), 0);
        assert_eq!(rates.spark("imu"), vec![0; SPARK_LEN]);
    }
}
