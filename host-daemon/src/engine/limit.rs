//! Rate limits for events that peers cause: a token bucket for each address, and one for all of them. Start with
//! [`Limiter`].
//!
//! The memory is fixed: addresses share 4096 buckets by a keyed hash, so a flood of addresses cannot make the
//! table grow, and no address can choose whose bucket it shares. Each bucket is one number, the time at which it is full
//! again (GCRA), so an idle bucket costs no work. `governor` keeps one entry for each key that it has seen and cannot
//! take from two buckets at once.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::engine::event::Peer;

/// Buckets that addresses share: 32 KiB.
const CELLS: usize = 4096;

/// The size of a bucket, and how fast it fills.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Tokens of a full bucket.
    pub burst: u32,
    /// Time after which one token comes back.
    pub interval: Duration,
}

/// The origin of an event: the bucket of its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin(u16);

/// Token buckets, one for each [`Origin`] and one for all.
#[derive(Debug)]
pub struct Limiter {
    start: Instant,
    each: Bucket,
    all: Bucket,
    /// When the bucket of all is full again, in ns since the start; then the same of each origin.
    all_full_at: u64,
    full_at: Box<[u64]>,
    hasher: RandomState,
}

/// A [`Rate`] in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    interval: u64,
    len: u64,
}

impl Limiter {
    /// With full buckets.
    #[must_use]
    pub fn new(each: Rate, all: Rate) -> Self {
        Self {
            start: Instant::now(),
            each: Bucket::new(each),
            all: Bucket::new(all),
            all_full_at: 0,
            full_at: vec![0; CELLS].into(),
            hasher: RandomState::new(),
        }
    }

    /// The origin of a peer: its IPv4 address, the /64 network of its IPv6 address, or its local listener.
    #[must_use]
    pub fn origin_of_peer(&self, peer: &Peer) -> Origin {
        match peer {
            Peer::Network(address) => self.origin_of_ip(address.ip()),
            Peer::Local(name) => self.origin(name.as_bytes()),
        }
    }

    /// The origin of a device that is known by its name: its address, where the name is one.
    #[must_use]
    pub fn origin_of_device(&self, device: &str) -> Origin {
        let address = device.parse::<SocketAddr>().map(|address| address.ip());
        match address.or_else(|_| device.parse()) {
            Ok(ip) => self.origin_of_ip(ip),
            Err(_) => self.origin(device.as_bytes()),
        }
    }

    /// Takes tokens from both buckets, or from none of them if one has too few.
    pub fn take(&mut self, origin: Origin, tokens: u32, now: Instant) -> bool {
        let now = nanoseconds(now.saturating_duration_since(self.start));
        let Some(full_at) = self.full_at.get_mut(usize::from(origin.0)) else {
            return false;
        };
        let each = self.each.take(*full_at, tokens, now);
        let all = self.all.take(self.all_full_at, tokens, now);
        let (Some(each), Some(all)) = (each, all) else {
            return false;
        };
        (*full_at, self.all_full_at) = (each, all);
        true
    }

    /// Gives back tokens that are not needed.
    pub fn give_back(&mut self, origin: Origin, tokens: u32) {
        if let Some(full_at) = self.full_at.get_mut(usize::from(origin.0)) {
            *full_at = full_at.saturating_sub(self.each.cost(tokens));
        }
        self.all_full_at = self.all_full_at.saturating_sub(self.all.cost(tokens));
    }

    fn origin_of_ip(&self, ip: IpAddr) -> Origin {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.origin(&ip.octets()),
            // A host can take any address of its /64.
            IpAddr::V6(ip) => self.origin(ip.octets().first_chunk::<8>().map_or(&[], |net| net)),
        }
    }

    fn origin(&self, key: &[u8]) -> Origin {
        let cell = self.hasher.hash_one(key) % CELLS as u64;
        Origin(u16::try_from(cell).unwrap_or_default())
    }
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        let interval = nanoseconds(rate.interval);
        Self {
            interval,
            len: interval.saturating_mul(rate.burst.into()),
        }
    }

    const fn cost(&self, tokens: u32) -> u64 {
        self.interval.saturating_mul(tokens as u64)
    }

    /// When it is full again after these tokens, if it has them.
    fn take(&self, full_at: u64, tokens: u32, now: u64) -> Option<u64> {
        let full_at = full_at.max(now).saturating_add(self.cost(tokens));
        (full_at <= now.saturating_add(self.len)).then_some(full_at)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(burst: u32) -> Rate {
        Rate {
            burst,
            interval: SECOND,
        }
    }

    #[test]
    fn an_address_gets_its_burst_and_then_its_rate() {
        let mut limiter = Limiter::new(rate(3), rate(100));
        let origin = limiter.origin_of_device("10.0.0.1");
        let now = Instant::now();
        assert!(limiter.take(origin, 2, now) && limiter.take(origin, 1, now));
        assert!(!limiter.take(origin, 1, now));
        assert!(!limiter.take(origin, 1, now + SECOND / 2));
        assert!(limiter.take(origin, 1, now + SECOND));
        assert!(!limiter.take(origin, 2, now + SECOND * 2));
        // Idle for long, it has its burst again and no more.
        let later = now + SECOND * 1000;
        assert!(!limiter.take(origin, 4, later) && limiter.take(origin, 3, later));
    }

    #[test]
    fn one_address_leaves_the_tokens_of_others_and_all_have_a_bound() {
        let mut limiter = Limiter::new(rate(3), rate(10));
        let now = Instant::now();
        let one = limiter.origin_of_device("10.0.0.1");
        let taken = (0..100).filter(|_| limiter.take(one, 1, now)).count();
        assert_eq!(taken, 3);
        let others = (0..1000).map(|host| limiter.origin_of_device(&format!("10.1.{host}.1:9")));
        let others: Vec<_> = others.collect();
        let taken = others
            .into_iter()
            .filter(|other| limiter.take(*other, 1, now));
        assert_eq!(taken.count(), 7);
        // A refusal takes nothing.
        assert!(limiter.take(one, 1, now + SECOND));
    }

    #[test]
    fn tokens_that_are_given_back_can_be_taken_again() {
        let mut limiter = Limiter::new(rate(3), rate(3));
        let (origin, now) = (limiter.origin_of_device("10.0.0.1"), Instant::now());
        assert!(limiter.take(origin, 3, now) && !limiter.take(origin, 1, now));
        limiter.give_back(origin, 2);
        assert!(!limiter.take(origin, 3, now) && limiter.take(origin, 2, now));
        limiter.give_back(origin, 100);
        assert!(!limiter.take(origin, 4, now) && limiter.take(origin, 3, now));
    }

    #[test]
    fn ports_and_the_addresses_of_one_ipv6_network_are_one_origin() {
        let limiter = Limiter::new(rate(1), rate(1));
        let of = |device: &str| limiter.origin_of_device(device);
        assert_eq!(of("10.0.0.1:5"), of("10.0.0.1"));
        assert_eq!(of("[2001:db8::1:2]:9"), of("2001:db8::ffff:1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        let peer = Peer::Network("[::ffff:10.0.0.1]:9".parse().unwrap());
        assert_eq!(limiter.origin_of_peer(&peer), of("10.0.0.1"));
        let differing = ["10.0.0.2", "2001:db8:1::1", "/dev/ttyACM0", "10.0.0.1"];
        let origins: std::collections::HashSet<_> = differing.map(|it| of(it).0).into();
        assert!(2 < origins.len(), "at most one pair meets by chance");
    }
}
