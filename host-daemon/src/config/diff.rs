//! What changes between two configurations, and what a running daemon can do about it: [`diff`].

use std::collections::{HashMap, HashSet};

use crate::config::partial::{Config, DeviceConfig, ListenerConfig, OPTIONS, Spec};
use crate::config::spec::Reload;

/// The differences of two configurations.
#[derive(Debug, Default)]
pub struct Diff {
    /// Listeners that are new.
    pub added: Vec<ListenerConfig>,
    /// Listeners that are gone.
    pub removed: Vec<ListenerConfig>,
    /// Addresses of listeners whose own options are different.
    pub changed: Vec<String>,
    /// Names of devices whose tables are new or different.
    pub devices: Vec<String>,
    /// Names of devices without a table any more.
    pub removed_devices: Vec<String>,
    /// Options that say how new connections are treated: framing, decoding, limits, timeouts, reply.
    pub policies: Vec<&'static Spec>,
    /// Options that bound all connections together.
    pub bounds: Vec<&'static Spec>,
    /// The bound on the recording, if it is another.
    pub retention: Option<&'static Spec>,
    /// The level of the log, if it is another.
    pub log: Option<&'static Spec>,
    /// Options that only a restart can change.
    pub restart: Vec<&'static Spec>,
}

/// Compares the configuration of a running daemon with a new one.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Diff {
    let mut diff = Diff::default();
    for spec in OPTIONS.iter().filter(|spec| differs(spec, old, new)) {
        match spec.reload {
            Reload::Policies => diff.policies.push(spec),
            Reload::Bounds => diff.bounds.push(spec),
            // Without a recording there is nothing to bound.
            Reload::Retention if old.record.is_some() => diff.retention = Some(spec),
            Reload::Log => diff.log = Some(spec),
            Reload::Retention | Reload::Restart => diff.restart.push(spec),
            Reload::Listeners => {}
        }
    }
    // Of an address that is given twice, such as one with port 0, the first is compared with the first.
    let mut left: Vec<_> = old.listeners.iter().collect();
    for listener in &new.listeners {
        let same = |it: &&ListenerConfig| it.address == listener.address;
        let Some(at) = left.iter().position(same) else {
            diff.added.push(listener.clone());
            continue;
        };
        if left.remove(at).own != listener.own {
            diff.changed.push(listener.address.clone());
        }
    }
    diff.removed = left.into_iter().cloned().collect();
    let only = |one: &Config, other: &Config| {
        let others = other.devices.iter();
        let others: HashMap<_, _> = others.map(|it| (&*it.id, it)).collect();
        let is_same = |it: &&DeviceConfig| others.get(&*it.id).is_some_and(|other| other == it);
        let devices = one.devices.iter().filter(|it| !is_same(it));
        devices.map(|it| it.label().to_owned()).collect()
    };
    let changed: Vec<String> = only(new, old);
    let mut gone: Vec<String> = only(old, new);
    let known: HashSet<_> = changed.iter().collect();
    gone.retain(|label| !known.contains(label));
    (diff.devices, diff.removed_devices) = (changed, gone);
    if diff.devices.is_empty() && diff.removed_devices.is_empty() && old.devices != new.devices {
        // The first table that matches decides.
        diff.devices = new.devices.iter().map(|it| it.label().to_owned()).collect();
    }
    diff
}

/// Whether two configurations have different values. A default that depends on other options is the same as its value.
fn differs(spec: &Spec, old: &Config, new: &Config) -> bool {
    let is_same = match (old.computed(spec.key), new.computed(spec.key)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    };
    spec.differs(old, new) && !is_same
}
