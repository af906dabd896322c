//! Device ids of senders: of this machine, and of recorded devices. Start with [`local_id`] and [`mapped_id`].

use framing_core::session::wire::DEVICE_MAX;

/// The device id of a machine without a name.
const UNNAMED: &str = "blocksd-send";

/// The host name as a device id; `blocksd-send` if there is none.
pub(crate) fn local_id() -> String {
    let system = rustix::system::uname();
    id_of_host(&system.nodename().to_string_lossy())
}

/// A text as a device id: each other character becomes a hyphen, and a longer text is cut. Empty if the text is.
pub(crate) fn mapped_id(text: &str) -> String {
    let allowed = |char: char| char.is_ascii_alphanumeric() || "._:-".contains(char);
    let chars = text.chars().take(DEVICE_MAX);
    chars
        .map(|char| if allowed(char) { char } else { '-' })
        .collect()
}

fn id_of_host(name: &str) -> String {
    match name {
        // Linux calls a machine without a name so.
        "" | "(none)" => UNNAMED.to_owned(),
        name => mapped_id(name),
    }
}

#[cfg(test)]
mod tests {
    use framing_core::session::Device;

    use super::*;

    #[test]
    fn every_name_becomes_a_device_id() {
        for (name, id) in [
            ("boiler-7", "boiler-7"),
            ("größe_1.local", "gr--e_1.local"),
            ("[::1]:1060", "-::1-:1060"),
            ("", UNNAMED),
            ("(none)", UNNAMED),
        ] {
            assert_eq!(id_of_host(name), id);
        }
        for id in [local_id(), mapped_id(&"ü".repeat(100))] {
            assert!(Device::new(&id).is_ok(), "{id}");
        }
    }
}
