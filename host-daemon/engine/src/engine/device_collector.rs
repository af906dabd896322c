//! The metrics of devices: a [`DeviceCollector`].

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::device::{DeviceRegistry, DeviceSnapshot, DeviceState};
use crate::metrics::Page;

/// Collects the number of devices in each state, and the series of the devices that were seen last.
///
/// # Examples
/// ```
/// use blocksd_engine::{DeviceCollector, Engine};
///
/// let engine = Engine::builder().build();
/// let collector = DeviceCollector::new(engine.handle().devices().clone(), 100);
/// let mut registry = prometheus_client::registry::Registry::default();
/// registry.register_collector(Box::new(collector));
/// let mut text = String::new();
/// prometheus_client::encoding::text::encode(&mut text, &registry)?;
/// assert!(text.contains("blocksd_devices{state=\"live\"} 0"));
/// # Ok::<(), std::fmt::Error>(())
/// ```
#[derive(Debug)]
pub struct DeviceCollector {
    devices: Arc<DeviceRegistry>,
    most: usize,
}

impl DeviceCollector {
    /// Creates a collector. At most `most` devices have series of their own: those that were seen last.
    #[must_use]
    pub const fn new(devices: Arc<DeviceRegistry>, most: usize) -> Self {
        Self { devices, most }
    }
}

impl Collector for DeviceCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::from(encoder);
        let list = self.devices.list();
        let mut seen = list.devices;
        page.gauges(
            "blocksd_devices",
            "Devices that are connected or remembered, by state",
            "state",
            DeviceState::ALL.map(|state| {
                let count = seen.iter().filter(|device| device.state == state).count();
                (state.as_str(), count as u64)
            }),
        )?;
        page.counter(
            "blocksd_devices_dropped",
            "Devices that were gone, and were dropped because more were gone than are remembered",
            list.dropped,
        )?;
        page.counter(
            "blocksd_silences_unannounced",
            "Silences of devices that ended before they could be logged and recorded, because of the rate limit",
            self.devices.unannounced(),
        )?;
        if self.most == 0 {
            return Ok(());
        }
        if self.most < seen.len() {
            // A series that ends would end the alert for a silent device.
            seen.select_nth_unstable_by_key(self.most, |device| {
                let rank = match device.state {
                    DeviceState::Silent => 0,
                    DeviceState::Faulty | DeviceState::Live => 1,
                    DeviceState::Gone => 2,
                };
                (rank, Reverse(device.last_seen))
            });
            seen.truncate(self.most);
        }
        of_each(&mut page, &seen)
    }
}

/// Writes the series of these devices.
fn of_each(page: &mut Page<'_>, devices: &[DeviceSnapshot]) -> fmt::Result {
    type Count = fn(&DeviceSnapshot) -> u64;
    let counters: [(_, _, Count); 5] = [
        (
            "blocksd_device_messages",
            "Whole messages received from a device",
            |device| device.messages,
        ),
        (
            "blocksd_device_payload_bytes",
            "Bytes of payload received from a device",
            |device| device.bytes,
        ),
        (
            "blocksd_device_faults",
            "Faults of a device, of all kinds",
            |device| device.faults.iter().sum(),
        ),
        (
            "blocksd_device_reconnects",
            "Times that a device connected again",
            |device| device.reconnects,
        ),
        (
            "blocksd_device_gap_messages",
            "Numbers without a message in the sessions of a device",
            |device| device.gap_messages,
        ),
    ];
    for (name, help, count) in counters {
        let counts = devices
            .iter()
            .map(|device| (&*device.device, count(device)));
        page.counters(name, help, "device", counts)?;
    }
    let gauges: [(_, _, Count); 2] = [
        (
            "blocksd_device_connections",
            "Open connections of a device",
            |device| device.connections.into(),
        ),
        (
            "blocksd_device_silent",
            "1 if a device is connected and silent, else 0",
            |device| (device.state == DeviceState::Silent).into(),
        ),
    ];
    for (name, help, value) in gauges {
        let values = devices
            .iter()
            .map(|device| (&*device.device, value(device)));
        page.gauges(name, help, "device", values)?;
    }
    let seconds = devices.iter().map(|device| {
        let since = device.last_seen.duration_since(UNIX_EPOCH);
        (&*device.device, since.unwrap_or_default().as_secs_f64())
    });
    page.gauges(
        "blocksd_device_last_seen_timestamp_seconds",
        "When a device last connected or sent",
        "device",
        seconds,
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn page(devices: &Arc<DeviceRegistry>, most: usize) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        let collector = DeviceCollector::new(Arc::clone(devices), most);
        registry.register_collector(Box::new(collector));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a page");
        text
    }

    #[test]
    fn only_the_devices_seen_last_have_series() {
        let devices = DeviceRegistry::new(1000);
        let begin = SystemTime::now();
        for index in 0..100_u32 {
            // Not in the order of their names.
            let device = devices.open(&format!("d{}", index * 37 % 100).into(), begin);
            device.arrived();
            device.batch(1, 1, begin + Duration::from_secs(index.into()));
        }
        let text = page(&devices, 10);
        let counted = text
            .lines()
            .filter(|line| line.starts_with("blocksd_device_messages_total{"));
        let mut counted: Vec<_> = counted.map(str::to_owned).collect();
        let mut wanted: Vec<_> = (90..100)
            .map(|index| {
                let name = index * 37 % 100;
                format!("blocksd_device_messages_total{{device=\"d{name}\"}} 1")
            })
            .collect();
        counted.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(counted, wanted);
        assert!(text.contains("blocksd_devices{state=\"live\"} 100\n"));
        // Eight series for each of them.
        assert_eq!(text.matches("{device=\"").count(), 80);
        assert!(!page(&devices, 0).contains("device="));
    }

    #[tokio::test(start_paused = true)]
    async fn connected_devices_have_series_before_others_and_silent_ones_first() {
        const SECOND: Duration = Duration::from_secs(1);
        let devices = DeviceRegistry::new(1000);
        let begin = SystemTime::now();
        let open = |name: &str, at_s| devices.open(&name.into(), begin + SECOND * at_s);
        let pump = open("pump", 0);
        for at_s in 1..10 {
            pump.arrived();
            pump.batch(1, 1, begin + SECOND * at_s);
            tokio::time::advance(SECOND).await;
        }
        tokio::time::advance(10 * SECOND).await;
        let [_boiler, _valve] = [open("boiler", 20), open("valve", 21)];
        let scan = open("scan", 22);
        devices.close(&scan);
        let names = |most| {
            let page = page(&devices, most);
            let named = |name: &&str| page.contains(&format!("_silent{{device=\"{name}\"}}"));
            let names = ["pump", "boiler", "valve", "scan"].into_iter();
            names.filter(named).collect::<Vec<_>>()
        };
        assert_eq!(names(1), ["pump"]);
        assert_eq!(names(2), ["pump", "valve"]);
        assert_eq!(names(3), ["pump", "boiler", "valve"]);
        assert_eq!(names(4).len(), 4);
        assert!(page(&devices, 1).contains("blocksd_device_silent{device=\"pump\"} 1\n"));
    }

    #[test]
    fn no_name_breaks_the_page() {
        let devices = DeviceRegistry::new(1000);
        let names = [
            "x\"} 1\nevil_total{a=\"",
            "a\\",
            "a\\\"",
            "\r\n# EOF\n",
            "µ\u{2028}",
        ];
        for name in names {
            let _open = devices.open(&name.into(), SystemTime::now());
        }
        let text = page(&devices, 1000);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("blocksd_"), "{line}");
            let (_, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        // What a reader of the format gets back.
        let unescaped = |text: &str| {
            let mut plain = String::new();
            let mut characters = text.chars();
            while let Some(character) = characters.next() {
                plain.push(match character {
                    '\\' => match characters.next().expect("an escaped character") {
                        'n' => '\n',
                        other => other,
                    },
                    other => other,
                });
            }
            plain
        };
        let start = "blocksd_device_silent{device=\"";
        let read = text.lines().filter_map(|line| line.strip_prefix(start));
        let mut read: Vec<_> = read
            .map(|rest| unescaped(rest.strip_suffix("\"} 0").expect("a value of 0")))
            .collect();
        let mut names = names.map(str::to_owned);
        read.sort_unstable();
        names.sort_unstable();
        assert_eq!(read, names);
    }
}
