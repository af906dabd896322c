//! The configuration of `serve`: typed, from the command line, a config file and defaults. Start with [`load`].
//!
//! `options.rs` is the table of all options. The command line and the file each fill a [`Partial`]; `load` combines them
//! with the defaults, the command line first, and validates the result once. A key of the file is an option's name
//! without its dashes; `[[listener]]` and `[device."ID"]` are tables.

mod combine;
mod diff;
mod effective;
pub mod error;
mod file;
mod options;
mod partial;
mod print;
mod spec;
mod units;
pub mod value;

pub use self::combine::load;
pub use self::diff::{Diff, diff};
pub use self::error::{ConfigError, Mistake, Reason, ValueOrigin};
pub use self::partial::{Config, DeviceConfig, GivenValue, ListenerConfig, OPTIONS, Partial, Spec};
pub use self::print::print;
pub use self::spec::{HelpGroup, Kind, Reload, Scope, Written};

impl Config {
    /// Where the value of an option comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> ValueOrigin {
        let spec = OPTIONS.iter().find(|spec| spec.key == key);
        let shown = spec.and_then(|spec| spec.given(&self.given));
        shown.map_or(ValueOrigin::Default, |shown| shown.origin)
    }

    /// What to log about the configuration itself: options by their old names.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let old = OPTIONS.iter().filter_map(|spec| {
            let shown = spec.given(&self.given).filter(|it| it.key != spec.key)?;
            let (old, new) = (shown.key, spec.key);
            Some(match (shown.origin, &self.file) {
                (ValueOrigin::Line(line), Some(file)) => format!(
                    "{}:{line}: {old}: old name of {new}; use the new name",
                    file.display()
                ),
                _ => format!("--{old}: old name of --{new}; use the new name"),
            })
        });
        old.collect()
    }
}

#[cfg(test)]
mod tests;
