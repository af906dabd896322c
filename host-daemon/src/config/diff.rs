//! The differences between two configurations, by what a running daemon can do with them: [`diff`].

use std::collections::{HashMap, HashSet};

use crate::config::partial::{Config, DeviceConfig, ListenerConfig, OPTIONS, Spec};
use crate::config::spec::Reload;

/// The differences between two configurations.
#[derive(Debug, Default)]
pub struct Diff {
    /// Listeners that are new.
    pub added: Vec<ListenerConfig>,
    /// Listeners that were removed.
    pub removed: Vec<ListenerConfig>,
    /// Addresses of listeners whose own options are different.
    pub changed: Vec<String>,
    /// Names of devices whose tables are new or different.
    pub devices: Vec<String>,
    /// Names of devices whose tables were removed.
    pub removed_devices: Vec<String>,
    /// Changed options that affect new connections: framing, decoding, limits, timeouts, reply.
    pub policies: Vec<&'static Spec>,
    /// Changed options that bound all connections together.
    pub bounds: Vec<&'static Spec>,
    /// Changed limits on the space of the recording.
    pub retention: Vec<&'static Spec>,
    /// The log level, if it has changed.
    pub log: Option<&'static Spec>,
    /// Changed options that need a restart.
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
            Reload::Retention if old.record.is_some() => diff.retention.push(spec),
            Reload::Log => diff.log = Some(spec),
            Reload::Retention | Reload::Restart => diff.restart.push(spec),
            Reload::Listeners => {}
        }
    }
    // An address may be given more than once, such as one with port 0. Equal addresses are compared in order.
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
        // The first table that matches is used, so a new order is a difference.
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
