//! Firmware in QEMU: [`image`] finds an image that `firmware-example/size` or `boards` has built, and [`Board`] runs it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::process::{Ended, Process, Server};
use crate::skip::skipped;

/// Upper bound of the samples that the ring of the board holds while there is no connection.
pub const QUEUE_LEN: u64 = 32;
/// Size of the send buffer of a board's connection: bytes that the connection has taken and may not have sent.
pub const SEND_BUFFER_LEN: u64 = 1024;

/// The environment variable that names the folder of images, in place of `firmware-example/target`.
const IMAGES: &str = "FIRMWARE_TARGET_DIR";

/// The folder of the firmware.
pub fn firmware() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-example")
}

/// The image of `mps2-an386`, `rv32-virt` or `uart-m0`. Reports that the test `name` is skipped if the image is missing or older
/// than its source, or if QEMU is missing.
pub fn image(name: &str, board: &str) -> Option<PathBuf> {
    let qemu = match board {
        "rv32-virt" => "qemu-system-riscv32",
        _ => "qemu-system-arm",
    };
    let found = built(board).and_then(|image| match Command::new(qemu).arg("--version").output() {
        Ok(_) => Ok(image),
        Err(error) => Err(format!("{qemu}: {error}; `tests/run` installs it")),
    });
    found.map_err(|reason| skipped(name, reason)).ok()
}

/// The path of a board's image, or why it cannot be used.
fn built(board: &str) -> Result<PathBuf, String> {
    let (target, builder) = match board {
        "rv32-virt" => (
            "riscv32imac-unknown-none-elf",
            "`firmware-example/boards rv32-virt`",
        ),
        "uart-m0" => ("thumbv6m-none-eabi", "`firmware-example/size`"),
        _ => ("thumbv7em-none-eabihf", "`firmware-example/size`"),
    };
    let folder = std::env::var_os(IMAGES).map_or_else(|| firmware().join("target"), PathBuf::from);
    let image = folder.join(target).join("release").join(board);
    let changed = |path: &Path| path.metadata().and_then(|it| it.modified());
    let Ok(linked) = changed(&image) else {
        return Err(format!(
            "the image of {board} is missing; {builder} builds it"
        ));
    };
    // Cargo lists the sources of an image beside it, in the form of a rule of `make`.
    let rule = fs::read_to_string(image.with_extension("d")).unwrap_or_default();
    let sources = rule.split_once(": ").map_or("", |(_, sources)| sources);
    let newer = sources
        .split_whitespace()
        .find(|source| !changed(Path::new(source)).is_ok_and(|changed| changed <= linked));
    match newer {
        Some(source) => Err(format!(
            "the image of {board} is older than {source}; {builder} builds it"
        )),
        None => Ok(image),
    }
}

/// An emulated board, killed when dropped. It has no time limit: start it with a plan that ends.
#[derive(Debug)]
pub struct Board {
    /// The process of QEMU.
    pub process: Process,
}

/// The report that a board prints when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Samples that the daemon's receipt counts.
    pub delivered: u64,
    /// Samples that a connection took and no receipt counts.
    pub in_doubt: u64,
    /// Samples that no connection took, or that the receipt does not count.
    pub lost: u64,
    /// Connections that were established.
    pub connections: u64,
    /// Whether the daemon has replied.
    pub answered: bool,
}

impl Board {
    /// Boots this image, with these arguments for `firmware-example/run`.
    pub fn start(image: &Path, words: &[String]) -> Self {
        let mut command = Command::new(firmware().join("run"));
        command.arg(image).args(words);
        Self {
            process: Process::start(command),
        }
    }

    /// Waits until the board ends by itself.
    #[track_caller]
    pub fn end(self) -> Ended {
        self.process.end()
    }

    /// Waits until the board ends by itself with success, and returns its report.
    #[track_caller]
    pub fn report(self) -> Report {
        let ended = self.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let printed = ended.stdout_text();
        let value = |key: &str| {
            let (_, rest) = printed.split_once(&format!(" {key}: ")).expect(key);
            rest.split([',', ' ']).next().unwrap_or_default()
        };
        let number = |key| value(key).parse().expect("a number");
        assert_eq!(value("ended"), "true", "{printed}");
        Report {
            delivered: number("delivered"),
            in_doubt: number("in_doubt"),
            lost: number("lost"),
            connections: number("connections"),
            answered: value("answered") == "true",
        }
    }
}

impl Report {
    /// Asserts that the report agrees with what arrived: every sample is counted as delivered, in doubt or lost; every
    /// delivered sample arrived, and every sample that arrived is delivered or in doubt.
    #[track_caller]
    pub fn assert_agrees(&self, sampled: u64, arrived: u64) {
        assert_eq!(
            self.delivered + self.in_doubt + self.lost,
            sampled,
            "{self:?}"
        );
        assert!(
            (self.delivered..=self.delivered + self.in_doubt).contains(&arrived),
            "{arrived} arrived, {self:?}"
        );
    }
}

/// A reserved port on the loopback interface, whether or not a daemon listens on it.
#[derive(Debug)]
pub struct Port {
    _socket: Socket,
    number: u16,
}

impl Port {
    /// Reserves a free port. The socket is bound and does not listen, so the system does not give the port to others. A
    /// program that asks for this port and allows its reuse, as the daemon does, gets it.
    pub fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("a live socket");
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        socket.bind(&any.into()).expect("a free port");
        let addr = socket.local_addr().expect("a bound socket");
        let number = addr.as_socket_ipv4().expect("IPv4").port();
        Self {
            _socket: socket,
            number,
        }
    }

    /// The port number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The argument of `blocksd serve` that listens on it.
    pub fn listen(&self) -> String {
        format!("127.0.0.1:{},decode=cbor", self.number)
    }

    /// Its socket address.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.number))
    }
}

/// The ports of a daemon, in the order of its arguments.
pub fn ports(server: &Server) -> Vec<u16> {
    let printed = server.process.error_text();
    let addrs = printed
        .lines()
        .filter_map(|line| line.strip_prefix("listening on "))
        .filter_map(|line| line.split_once(" framing="));
    addrs
        .map(|(addr, _)| addr.parse::<SocketAddr>().expect("an address").port())
        .collect()
}

/// The decoded values, in the order of their arrival.
pub fn values(events: &[Value]) -> Vec<Value> {
    let values = events.iter().map(|event| &event["value"]);
    values.filter(|value| value.is_object()).cloned().collect()
}

/// The values of each connection, in the order in which the connections opened.
pub fn values_by_connection(events: &[Value]) -> Vec<Vec<Value>> {
    let opened = events.iter().filter(|event| event["event"] == "open");
    let of = |conn: &Value| {
        let own = events.iter().filter(|event| event["conn"] == *conn);
        values(&own.cloned().collect::<Vec<_>>())
    };
    opened.map(|open| of(&open["conn"])).collect()
}

/// The number under this key of a sample.
#[track_caller]
pub fn figure(sample: &Value, key: &str) -> u64 {
    let figure = sample[key].as_u64();
    figure.unwrap_or_else(|| panic!("{sample} has no {key}"))
}

/// Accounts for all samples of a board, by connection: each sample arrived, or a later one counts it as lost, or the
/// previous connection had taken it when it failed. Returns the number of samples of the last kind, for each connection
/// but the last.
#[track_caller]
pub fn in_flight(connections: &[Vec<Value>]) -> Vec<u64> {
    let (mut accounted, mut lost, mut taken) = (0, 0, Vec::new());
    for (index, samples) in connections.iter().enumerate() {
        for (at, sample) in samples.iter().enumerate() {
            let (number, lost_now) = (figure(sample, "n"), figure(sample, "lost"));
            assert!(lost <= lost_now, "{sample}");
            accounted += lost_now - lost;
            lost = lost_now;
            let gap = number.checked_sub(accounted);
            let gap = gap.unwrap_or_else(|| panic!("{sample} instead of sample {accounted}"));
            if at == 0 && index != 0 {
                taken.push(gap);
                accounted = number;
            }
            assert_eq!(number, accounted, "{sample} of connection {index}");
            accounted += 1;
        }
    }
    taken
}
