//! QEMU's monitor: commands to an emulator, and its memory. Start with [`Monitor`].

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::process::{DEADLINE, wait_until};

/// A connection to the monitor of an emulator.
#[derive(Debug)]
pub struct Monitor(UnixStream);

/// The end of every answer.
const PROMPT: &str = "(qemu) ";

impl Monitor {
    /// Connects to the socket at this path, which `firmware-example/run monitor=PATH` makes.
    #[track_caller]
    pub fn connect(path: &Path) -> Self {
        let mut stream = None;
        wait_until("QEMU listens", || {
            stream = UnixStream::connect(path).ok();
            stream.is_some()
        });
        let stream = stream.expect("it is connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        let mut monitor = Self(stream);
        monitor.answer();
        monitor
    }

    /// Runs a command, and returns its answer.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> String {
        writeln!(self.0, "{command}").expect("QEMU reads");
        self.answer()
    }

    /// The bytes of the board's memory at an address.
    #[track_caller]
    pub fn memory(&mut self, address: u64, len: usize) -> Vec<u8> {
        let dump = self.run(&format!("xp /{len}xb {address:#x}"));
        // After each address and a colon: `0x` and two digits for each byte.
        let bytes = dump.lines().filter_map(|line| line.split_once(": "));
        let bytes = bytes.flat_map(|(_, bytes)| bytes.split_whitespace());
        let bytes: Vec<_> = bytes
            .map(|byte| {
                byte.strip_prefix("0x")
                    .and_then(|it| u8::from_str_radix(it, 16).ok())
            })
            .map(|byte| byte.expect("a byte"))
            .collect();
        assert_eq!(bytes.len(), len, "{dump}");
        bytes
    }

    #[track_caller]
    fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(PROMPT.as_bytes()) {
            let mut bytes = [0; 4096];
            let len = self.0.read(&mut bytes).expect("QEMU answers");
            assert_ne!(
                len,
                0,
                "QEMU has ended: {}",
                String::from_utf8_lossy(&answer)
            );
            answer.extend_from_slice(&bytes[..len]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}
