//! A configuration in which any option may be missing: [`Partial`]. The command line and the config file fill one each.

mod lists;

use std::path::PathBuf;
use std::time::Duration;

use framing_core::AnyFraming;

use self::lists::{FORWARD, LISTEN};
use crate::config::error::{ADDRESS, ValueOrigin};
use crate::config::forward::ForwardConfig;
use crate::config::listener_tls::{self, ListenerTls};
use crate::config::options::for_each_option;
use crate::config::spec::{HelpGroup, Kind, Reload, Scope, Written};
use crate::config::value::{
    self, AfterEnd, Choice, Compression, Decoding, OutputKind, Oversize, SessionMode, Timeout,
    Words,
};
use blocksd_engine::admission::identity::{DeviceBy, Match};
use blocksd_engine::listen::address::{Address, AddressError};
use blocksd_engine::listen::proxy::ProxyFrom;
use blocksd_engine::network::NetworkError;

/// Least size of a file, in bytes. Even an empty file has a header and a footer.
const ROTATE_SIZE_MIN: u64 = 4 << 10;
/// Least size of a recording, in bytes: a few chunks in each of four files. With less, a file could be deleted as soon
/// as it is sealed.
const RECORD_MAX_MIN: u64 = 16 << 20;
/// Least value of the free space to keep, in bytes. Less is written between two measurements.
const MIN_FREE_MIN: u64 = 1 << 20;

/// The definition of an option, without its value.
pub struct Spec {
    /// The key in the config file, and the name of the option on the command line.
    pub key: &'static str,
    /// Its old name, which is still accepted.
    pub old: Option<&'static str>,
    /// The placeholder for the value in the help.
    pub value: &'static str,
    /// The heading in the help.
    pub group: HelpGroup,
    /// What kind of value it takes.
    pub kind: Kind,
    /// The tables that may contain it.
    pub scope: Scope,
    /// What a reload does with a new value.
    pub reload: Reload,
    /// Whether it configures the recording, and so has no effect without `record`.
    pub needs_record: bool,
    /// The help text.
    pub help: &'static str,
    /// The default value, if there is one.
    pub default: Option<&'static str>,
    /// The words that the value may be.
    pub choices: fn() -> Vec<Choice>,
    set: fn(&mut Partial, Written<'_>) -> Result<(), String>,
    given: fn(&Partial) -> Option<Written<'_>>,
    differs: fn(&Config, &Config) -> bool,
    keep: fn(&mut Config, &Config),
}

/// A value with its origin. Two are equal if their values are.
#[derive(Clone, Debug)]
pub struct GivenValue<T> {
    /// The value.
    pub value: T,
    /// The text as it was written.
    pub text: String,
    /// Where it was written.
    pub origin: ValueOrigin,
    /// The name of the option that was used: the current or the old one.
    pub key: &'static str,
}

/// An address to listen on, with options of its own.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// A text that [`Address`] reads.
    pub address: String,
    /// Where it was given.
    pub origin: ValueOrigin,
    /// Its own options.
    pub own: Partial,
    /// Its TLS.
    pub tls: ListenerTls,
    /// Proxies, whose connections begin with a header of the PROXY protocol, and where they were written.
    pub proxy_from: Option<(ProxyFrom, ValueOrigin)>,
}

/// A table `[device."ID"]`.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// The ID.
    pub id: String,
    /// Where the table begins.
    pub origin: ValueOrigin,
    /// Its name, if it has one.
    pub name: Option<(String, ValueOrigin)>,
    /// What its connections match; if empty, they match the ID.
    pub matches: Vec<(Match, ValueOrigin)>,
    /// Its own options.
    pub own: Partial,
}

impl<T: PartialEq> PartialEq for GivenValue<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for ListenerConfig {
    fn eq(&self, other: &Self) -> bool {
        let proxies = |it: &Self| it.proxy_from.as_ref().map(|(proxies, _)| proxies.clone());
        self.address == other.address
            && self.own == other.own
            && self.tls == other.tls
            && proxies(self) == proxies(other)
    }
}

impl PartialEq for DeviceConfig {
    fn eq(&self, other: &Self) -> bool {
        let matches = |it: &Self| it.matches().collect::<Vec<_>>();
        self.label() == other.label() && matches(self) == matches(other) && self.own == other.own
    }
}

impl Spec {
    const BASE: Self = Self {
        key: "",
        old: None,
        value: "",
        group: HelpGroup::Listening,
        kind: Kind::Number,
        scope: Scope::Daemon,
        reload: Reload::Restart,
        needs_record: false,
        help: "",
        default: None,
        choices: value::no_choices,
        set: |_, _| Ok(()),
        given: |_| None,
        differs: |_, _| false,
        keep: |_, _| {},
    };

    /// Parses a value and stores it in a partial configuration; appends it if the option is a list.
    ///
    /// # Errors
    /// If the value is invalid; the error says why.
    pub fn set(&self, partial: &mut Partial, input: Written<'_>) -> Result<(), String> {
        (self.set)(partial, input)
    }

    /// The value as it was given.
    #[must_use]
    pub fn given<'a>(&self, partial: &'a Partial) -> Option<Written<'a>> {
        (self.given)(partial)
    }

    /// Whether two configurations have different values.
    #[must_use]
    pub fn differs(&self, one: &Config, other: &Config) -> bool {
        (self.differs)(one, other)
    }

    /// Takes the value from another configuration.
    pub fn keep(&self, config: &mut Config, from: &Config) {
        (self.keep)(config, from);
    }
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Spec").field(&self.key).finish()
    }
}

impl ListenerConfig {
    /// Reads `ADDR[,KEY=VALUE]...`.
    ///
    /// # Errors
    /// If the address, a key or a value cannot be used.
    pub fn parse(text: &str, origin: ValueOrigin) -> Result<Self, String> {
        let mut parts = text.split(',');
        let mut listener = Self::new(parts.next().unwrap_or_default(), origin)?;
        let mistakes: Vec<_> = parts.filter_map(|part| listener.set(part).err()).collect();
        if mistakes.is_empty() {
            Ok(listener)
        } else {
            Err(mistakes.join("; "))
        }
    }

    /// Reads `KEY=VALUE`.
    fn set(&mut self, part: &str) -> Result<(), String> {
        let (key, text) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` is not KEY=VALUE"))?;
        if let Some(key) = key.strip_prefix(listener_tls::PREFIX) {
            let set = self.tls.set(key, text, self.origin);
            return set.map_err(|reason| format!("{}{key}: {reason}", listener_tls::PREFIX));
        }
        if key == PROXY_FROM {
            return self.set_proxies(text, self.origin);
        }
        let spec = find(key, Scope::Listener).ok_or_else(|| not_of_a_listener(key))?;
        let (key, origin) = (spec.key, self.origin);
        let set = spec.set(&mut self.own, Written { text, origin, key });
        set.map_err(|reason| format!("{key}: {reason}"))
    }

    /// A listener without options of its own.
    ///
    /// # Errors
    /// If it is not an address.
    pub(super) fn new(address: &str, origin: ValueOrigin) -> Result<Self, String> {
        let checked: Result<Address, AddressError> = address.parse();
        checked.map_err(|error| error.to_string())?;
        Ok(Self {
            address: address.to_owned(),
            origin,
            own: Partial::default(),
            tls: ListenerTls::default(),
            proxy_from: None,
        })
    }

    /// Sets the proxies: addresses and networks, separated by spaces.
    pub(super) fn set_proxies(&mut self, text: &str, origin: ValueOrigin) -> Result<(), String> {
        if !matches!(
            self.address.parse(),
            Ok(Address::Tcp(_) | Address::Systemd(_))
        ) {
            return Err(format!(
                "{PROXY_FROM} is for TCP, and `{}` is not",
                self.address
            ));
        }
        let proxies = text.parse();
        let proxies = proxies.map_err(|error: NetworkError| format!("{PROXY_FROM}: {error}"))?;
        self.proxy_from = Some((proxies, origin));
        Ok(())
    }
}

impl DeviceConfig {
    /// The name of the device in topics, labels and file names.
    #[must_use]
    pub fn label(&self) -> &str {
        self.name.as_ref().map_or(&self.id, |(name, _)| name)
    }

    /// What the connections of this device match.
    pub fn matches(&self) -> impl Iterator<Item = Match> {
        let id = self.matches.is_empty().then(|| Match::of_id(&self.id));
        let matches = self.matches.iter().map(|(it, _)| it.clone());
        id.into_iter().chain(matches)
    }
}

/// Finds an option by its key or its old name, if tables of this scope may contain it.
#[must_use]
pub(super) fn find(key: &str, scope: Scope) -> Option<&'static Spec> {
    OPTIONS
        .iter()
        .find(|spec| scope <= spec.scope && (spec.key == key || spec.old == Some(key)))
}

fn not_of_a_listener(key: &str) -> String {
    if find(key, Scope::Daemon).is_some() {
        return format!("`{key}` applies to all listeners; give it as --{key}");
    }
    let own = OPTIONS.iter().filter(|spec| spec.scope == Scope::Listener);
    let names: Vec<_> = own.map(|spec| spec.key).collect();
    format!(
        "`{key}` is not an option of a listener; the options are {}, {PROXY_FROM}, tls-{}",
        names.join(", "),
        listener_tls::KEYS.join(", tls-")
    )
}

/// The type of a field of [`Config`].
macro_rules! type_of {
    ($type:ty) => { Option<$type> };
    ($type:ty, $default:literal) => { $type };
}

/// The value of a field of [`Config`].
macro_rules! value_of {
    ($given:expr, $key:literal) => {
        $given.as_ref().map(|given| given.value.clone())
    };
    ($given:expr, $key:literal, $default:literal) => {
        $given.as_ref().ok_or($key)?.value.clone()
    };
}

macro_rules! default_of {
    () => {
        None
    };
    ($default:literal) => {
        Some($default)
    };
}

macro_rules! define {
    ($(
        $(#[doc = $help:literal])+
        $field:ident: $type:ty $(= $default:literal)?, $parse:expr, Spec { key: $key:literal, $($spec:tt)* };
    )+) => {
        /// The options of `serve`, any of which may be missing.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Partial {
            /// Addresses to listen on; empty if not set.
            pub listeners: Vec<ListenerConfig>,
            /// Tables of devices.
            pub devices: Vec<DeviceConfig>,
            /// Clusters that the recording is forwarded to.
            pub forwards: Vec<ForwardConfig>,
            $($(#[doc = $help])+ pub $field: Option<GivenValue<$type>>,)+
        }

        /// The configuration of `serve`: every option with its value. Made by [`load`](crate::config::load).
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct Config {
            /// The file that was read.
            pub file: Option<PathBuf>,
            /// Keys of the file that the command line overrides.
            pub overridden: Vec<&'static str>,
            /// Addresses to listen on.
            pub listeners: Vec<ListenerConfig>,
            /// Tables of devices, in the order of the file.
            pub devices: Vec<DeviceConfig>,
            /// Clusters that the recording is forwarded to.
            pub forwards: Vec<ForwardConfig>,
            /// The values as they were given, with their origins.
            pub(super) given: Partial,
            $($(#[doc = $help])+ pub $field: type_of!($type $(, $default)?),)+
        }

        /// Every option of `serve` except `config`.
        pub static OPTIONS: &[Spec] = &[
            LISTEN,
            $(Spec {
                key: $key,
                help: concat!($($help),+),
                default: default_of!($($default)?),
                set: |partial, Written { text, origin, key }| {
                    let parse: fn(&str) -> Result<$type, String> = $parse;
                    let (value, text) = (parse(text)?, text.to_owned());
                    partial.$field = Some(GivenValue { value, text, origin, key });
                    Ok(())
                },
                given: |partial| {
                    partial.$field.as_ref().map(|it| Written { text: &it.text, origin: it.origin, key: it.key })
                },
                differs: |one, other| one.$field != other.$field,
                keep: |config, from| config.$field = from.$field.clone(),
                $($spec)*
            },)+
            FORWARD,
        ];

        impl Partial {
            /// Takes each option that is missing here from `other`. Lists are not merged.
            #[must_use]
            pub fn combine(self, other: Self) -> Self {
                let or = |one: Vec<_>, other| if one.is_empty() { other } else { one };
                Self {
                    listeners: or(self.listeners, other.listeners),
                    devices: if self.devices.is_empty() { other.devices } else { self.devices },
                    forwards: if self.forwards.is_empty() { other.forwards } else { self.forwards },
                    $($field: self.$field.or(other.$field),)+
                }
            }
        }

        impl Config {
            /// Builds a configuration. The error is the key of an option with a default that has no value.
            pub(super) fn new(
                file: Option<PathBuf>,
                overridden: Vec<&'static str>,
                given: Partial,
            ) -> Result<Self, &'static str> {
                Ok(Self {
                    file,
                    overridden,
                    listeners: given.listeners.clone(),
                    devices: given.devices.clone(),
                    forwards: given.forwards.clone(),
                    $($field: value_of!(given.$field, $key $(, $default)?),)+
                    given,
                })
            }
        }
    };
}

for_each_option!(define);

impl Partial {
    /// The default values.
    #[must_use]
    pub fn defaults() -> Self {
        let mut defaults = Self::default();
        for spec in OPTIONS {
            let input = spec.default.map(|text| Written {
                text,
                origin: ValueOrigin::Default,
                key: spec.key,
            });
            // A test checks that every default can be parsed.
            let _ = input.map_or(Ok(()), |input| spec.set(&mut defaults, input));
        }
        defaults
    }

    /// Adds the options of another part of the same source; lists are appended.
    pub fn add(&mut self, mut other: Self) {
        let mut listeners = std::mem::take(&mut self.listeners);
        listeners.append(&mut other.listeners);
        let mut forwards = std::mem::take(&mut self.forwards);
        forwards.append(&mut other.forwards);
        *self = std::mem::take(self).combine(other);
        (self.listeners, self.forwards) = (listeners, forwards);
    }

    /// The keys that are set both here and in `other`.
    pub(super) fn common(&self, other: &Self) -> Vec<&'static str> {
        let both = |spec: &&Spec| spec.given(self).is_some() && spec.given(other).is_some();
        OPTIONS.iter().filter(both).map(|spec| spec.key).collect()
    }
}

/// Key of a listener with the proxies.
pub(super) const PROXY_FROM: &str = "proxy-from";
/// Key of `[device."ID"]` with the name of the device.
pub(super) const NAME: &str = "name";
/// Key of `[device."ID"]` with what the device's connections match.
pub(super) const MATCH: &str = "match";

/// The keys that a table may contain, without old names.
pub(super) fn keys(scope: Scope) -> impl Iterator<Item = &'static str> {
    let other: &[&str] = match scope {
        Scope::Daemon => &["listener", "device", "forward"],
        Scope::Device => &[NAME, MATCH],
        Scope::Listener => &[ADDRESS, listener_tls::TABLE, PROXY_FROM],
    };
    let options = OPTIONS.iter().filter(move |spec| scope <= spec.scope);
    options.map(|spec| spec.key).chain(other.iter().copied())
}
