//! Memory of unfinished messages by origin, and by device within an origin: [`Sums`].

use crate::permit::unfinished::Holdings;

/// Memory that each origin holds, and each device of an origin.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Indexed by the key of the origin.
    origins: Vec<OfOrigin>,
    /// Indexed by the key of the device: the key of its origin, and its bytes.
    devices: Vec<(usize, u64)>,
    /// Number of origins that hold more than the guaranteed memory.
    holders: u64,
}

/// Memory that an origin holds.
#[derive(Clone, Copy, Debug, Default)]
struct OfOrigin {
    held: u64,
    /// Number of its devices that hold more than the guaranteed memory.
    holders: u64,
}

impl Sums {
    pub(super) fn clear(&mut self) {
        self.origins.clear();
        self.devices.clear();
    }

    /// Adds the memory of a connection of this device.
    pub(super) fn add(&mut self, device: u32, origin: Option<u32>, held: u64) {
        let (Some(origin), device) = (origin, device as usize) else {
            return;
        };
        let origin = origin as usize;
        if self.devices.len() <= device {
            self.devices.resize(device + 1, (0, 0));
        }
        if self.origins.len() <= origin {
            self.origins.resize(origin + 1, OfOrigin::default());
        }
        if let Some((of, sum)) = self.devices.get_mut(device) {
            (*of, *sum) = (origin, *sum + held);
        }
        if let Some(of) = self.origins.get_mut(origin) {
            of.held += held;
        }
    }

    /// Counts the origins and devices that hold more than `guaranteed`. Call it when all connections are added.
    pub(super) fn count_holders(&mut self, guaranteed: u64) {
        for (origin, held) in &self.devices {
            if let Some(of) = self.origins.get_mut(*origin) {
                of.holders += u64::from(guaranteed < *held);
            }
        }
        let holders = self.origins.iter().filter(|of| guaranteed < of.held);
        self.holders = holders.count() as u64;
    }

    /// Returns the holdings of the origin and the device of a connection that holds `held` bytes, and the fair shares
    /// of both in `all` bytes.
    pub(super) fn fair_share(
        &self,
        device: Option<u32>,
        held: u64,
        all: u64,
        guaranteed: u64,
    ) -> (Holdings, Holdings) {
        let device = device.and_then(|device| self.devices.get(device as usize));
        let (origin, of_device) = device.copied().unwrap_or((usize::MAX, held));
        let origin = self.origins.get(origin).copied().unwrap_or_default();
        let other_devices = origin.holders - u64::from(guaranteed < of_device).min(origin.holders);
        let of_device = of_device.max(held);
        let of_origin = origin.held.max(of_device);
        let share = all / (self.holders + 1);
        ((of_origin, of_device), (share, share / (other_devices + 1)))
    }

    /// Returns the device that holds most in the origin that holds most.
    pub(super) fn most(&self) -> Option<u32> {
        let origins = self.origins.iter().enumerate();
        let (most, _) = origins.max_by_key(|(_, of)| of.held)?;
        let devices = self.devices.iter().enumerate();
        let devices = devices.filter(|(_, (origin, _))| *origin == most);
        let (device, _) = devices.max_by_key(|(_, (_, held))| *held)?;
        u32::try_from(device).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fair_shares_and_the_largest_holder_go_by_origin_first() {
        let mut sums = Sums::default();
        // 50 devices of one origin, and one device of another that holds more than each of them.
        for device in 0..50 {
            sums.add(device, Some(0), 100 + u64::from(device == 7));
        }
        sums.add(50, Some(1), 900);
        sums.count_holders(10);
        assert_eq!(sums.most(), Some(7));
        let (own, share) = sums.fair_share(Some(7), 101, 30_000, 10);
        assert_eq!((own, share), ((5001, 101), (10_000, 200)));
        let (own, share) = sums.fair_share(Some(50), 900, 30_000, 10);
        assert_eq!((own, share), ((900, 900), (10_000, 10_000)));
        // A device that was not added yet.
        let (own, share) = sums.fair_share(Some(99), 5, 30_000, 10);
        assert_eq!((own, share), ((5, 5), (10_000, 10_000)));
    }
}
