//! Names of topics and files for devices: [`name`].

use std::fmt::Write as _;

/// A name of `[A-Za-z0-9_-]` for a device. It needs no quotes in a message path of Foxglove, and is a safe file name.
/// Different devices have different names.
///
/// Letters, digits and `_` stay, and a dot between two digits becomes `_`. Every other byte becomes `--` with two
/// hexadecimal digits; so does `_` between two digits, and `-` unless a letter, a digit or `_` follows.
pub(super) fn name(device: &str) -> String {
    let bytes = device.as_bytes();
    let is_digit = |at: Option<usize>| {
        let byte = at.and_then(|at| bytes.get(at));
        byte.is_some_and(u8::is_ascii_digit)
    };
    let mut name = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        let is_within_number = is_digit(at.checked_sub(1)) && is_digit(at.checked_add(1));
        let next = bytes.get(at + 1);
        match byte {
            b'.' if is_within_number => name.push('_'),
            b'_' if !is_within_number => name.push('_'),
            b'-' if next.is_some_and(|next| is_plain(*next)) => name.push('-'),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(*byte)),
            // A write to a string does not fail.
            byte => drop(write!(name, "--{byte:02x}")),
        }
    }
    name
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};
    use proptest::sample::select;

    use super::*;

    /// The device of a name.
    fn device(name: &str) -> Vec<u8> {
        let name = name.as_bytes();
        let (mut device, mut at) = (Vec::<u8>::new(), 0);
        while at < name.len() {
            if name[at..].starts_with(b"--") {
                let digits = std::str::from_utf8(&name[at + 2..at + 4]).expect("digits");
                device.push(u8::from_str_radix(digits, 16).expect("a number"));
                at += 4;
                continue;
            }
            let is_dot = name[at] == b'_'
                && device.last().is_some_and(u8::is_ascii_digit)
                && name.get(at + 1).is_some_and(u8::is_ascii_digit);
            device.push(if is_dot { b'.' } else { name[at] });
            at += 1;
        }
        device
    }

    #[test]
    fn usual_devices_have_readable_names() {
        for (device, want) in [
            ("10.0.0.7", "10_0_0_7"),
            ("10.0.0.7:4711", "10_0_0_7--3a4711"),
            ("fe80::1", "fe80--3a--3a1"),
            ("imu", "imu"),
            ("imu_2", "imu_2"),
            ("sensor-1", "sensor-1"),
            ("node.1", "node--2e1"),
            ("10_0_0_7", "10--5f0--5f0--5f7"),
            ("a--b", "a--2d-b"),
            ("-", "--2d"),
            ("../etc", "--2e--2e--2fetc"),
            ("\u{e9}", "--c3--a9"),
            ("", ""),
        ] {
            assert_eq!(name(device), want, "{device}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_plain_and_belongs_to_one_device(parts in vec(select(vec!["-", "_", ".", "1", "a", "2d", "é", "/", "\0"]), 0..12), other in any::<String>()) {
            for text in [parts.concat(), other] {
                let name = name(&text);
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
                assert!(name.bytes().all(is_plain), "{name}");
                assert!(!name.contains("---"), "{name}");
                assert_eq!(device(&name), text.as_bytes(), "{name}");
            }
        }
    }
}
