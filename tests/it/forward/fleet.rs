//! Several daemons after one balancer: devices with certificates move between them in the middle of their sessions. What is
//! acknowledged is in the cluster, once.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use blocksd_tests::chaos::wire::connect_from;
use blocksd_tests::code_blocks::{code_blocks, replace};
use blocksd_tests::disk::Chance;
use blocksd_tests::nats::NatsServer;
use blocksd_tests::pki::Fleet;
use blocksd_tests::process::{Ended, Process, Server, finish, wait_until};
use blocksd_tests::programs::{Program, blocksd};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::stream::{forwarded, rounds, serve, wait_until_forwarded};

/// Devices.
const DEVICES: usize = 4;

#[test]
fn sessions_that_move_between_two_daemons_are_in_the_cluster_once() {
    run_fleet(
        "sessions_that_move_between_two_daemons_are_in_the_cluster_once",
        2,
    );
}

#[test]
fn sessions_that_move_between_three_daemons_are_in_the_cluster_once() {
    run_fleet(
        "sessions_that_move_between_three_daemons_are_in_the_cluster_once",
        3,
    );
}

#[test]
fn the_documented_balancer_has_no_warnings() {
    let name = "the_documented_balancer_has_no_warnings";
    let Some(haproxy) = Program::find(name, "haproxy") else {
        return;
    };
    let folder = TempDir::new().expect("a folder for temporary files");
    let file = folder.path().join("haproxy.cfg");
    fs::write(&file, documented()).expect("a file");
    let mut command = haproxy.command(&["-c", "-f"]);
    command.arg(&file);
    let ended = finish(command, b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stderr.contains("WARNING"), "{ended:?}");
}

/// A device keeps its daemon while that one is there, whatever its address.
#[test]
fn the_documented_balancer_passes_a_lost_daemon_over() {
    let name = "the_documented_balancer_passes_a_lost_daemon_over";
    let Some(haproxy) = Program::find(name, "haproxy") else {
        return;
    };
    let folder = TempDir::new().expect("a folder for temporary files");
    let daemon = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let here = daemon.local_addr().expect("a bound socket");
    thread::spawn(move || {
        for mut connection in daemon.incoming().map_while(Result::ok) {
            // Fails if the device has gone.
            let _ = connection.write_all(b"here");
            thread::spawn(move || connection.read_to_end(&mut Vec::new()));
        }
    });
    let (port, lost) = (ReservedPort::take(), ReservedPort::take());
    let mut config = documented();
    for (from, to) in [
        (":1060", port.address()),
        ("10.0.0.1:1060", lost.address()),
        ("10.0.0.2:1060", here),
    ] {
        let (from, to) = match from {
            ":1060" => (format!("bind {from}"), format!("bind {to}")),
            _ => (from.to_owned(), to.to_string()),
        };
        config = replace(&config, &from, to);
    }
    let file = folder.path().join("haproxy.cfg");
    fs::write(&file, config).expect("a file");
    let mut command = haproxy.command(&["-db", "-f"]);
    command.arg(&file);
    let _balancing = Process::start(command);
    let address = port.address();
    wait_until("haproxy listens", || TcpStream::connect(address).is_ok());
    let devices = (1..=8).map(|host| {
        thread::spawn(move || {
            let mut stream =
                connect_from([127, 0, 1, host].into(), address).expect("haproxy listens");
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).map(|()| answer)
        })
    });
    let devices: Vec<_> = devices.collect();
    for (device, index) in devices.into_iter().zip(1..) {
        let answer = device.join().expect("no panic");
        assert_eq!(answer.ok().as_ref(), Some(b"here"), "device {index}");
    }
}

/// The configuration of haproxy in `docs/forwarding.md`.
fn documented() -> String {
    let blocks = code_blocks("docs/forwarding.md");
    let found = blocks
        .into_iter()
        .find(|it| it.code.contains("\nfrontend "));
    found.expect("a block").code
}

fn run_fleet(name: &str, count: usize) {
    let Some(haproxy) = Program::find(name, "haproxy") else {
        return;
    };
    let mut nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().expect("a folder for temporary files");
    let (fleet, url) = (Fleet::new(), nats.url());
    let mut daemons: Vec<_> = (0..count)
        .map(|index| Daemon::start(&fleet, folder.path().join(index.to_string()), &url))
        .collect();
    let balancer = Balancer::new(&haproxy, folder.path(), &daemons);
    let mut balancing = balancer.start();
    let stop = Arc::<AtomicBool>::default();
    let devices: Vec<_> = (0..DEVICES)
        .map(|index| send(&fleet, index, &balancer.port, &stop))
        .collect();
    let mut chance = Chance(rounds());
    for _ in 0..rounds() {
        thread::sleep(Duration::from_millis(chance.of(50..=600) as u64));
        match chance.of(0..=4) {
            0 => nats.restart(),
            1 => nats.pause(Duration::from_millis(chance.of(0..=1500) as u64)),
            2 => {
                let index = chance.of(0..=daemons.len() - 1);
                daemons[index].restart(&fleet, &url);
            }
            // Every connection is cut, and goes to another daemon.
            _ => {
                drop(balancing);
                balancing = balancer.start();
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let sent: Vec<_> = devices
        .into_iter()
        .map(|it| it.join().expect("no panic"))
        .collect();
    for (ended, _) in &sent {
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    // Everything was acknowledged, so it is in the cluster now.
    assert_once(&url, &sent);
    for daemon in &daemons {
        wait_until_forwarded(&daemon.server, &url, &daemon.record);
    }
    assert_once(&url, &sent);
}

/// Each message of each device is in the stream once, in order.
#[track_caller]
fn assert_once(url: &str, sent: &[(Ended, usize)]) {
    let messages = forwarded(url, "blocksd");
    for (index, (_, count)) in sent.iter().enumerate() {
        let found = &messages[&device(index)];
        let sessions: Vec<_> = found.iter().map(|(session, ..)| session).collect();
        assert!(
            sessions.windows(2).all(|pair| pair[0] == pair[1]),
            "{sessions:?}"
        );
        let numbers: Vec<_> = found.iter().map(|(_, number, _)| *number).collect();
        let wanted: Vec<_> = (0..*count as u64).collect();
        let differs = numbers
            .iter()
            .zip(&wanted)
            .position(|(one, other)| one != other);
        let near = differs.map(|at| &numbers[at.saturating_sub(3)..numbers.len().min(at + 3)]);
        assert_eq!(
            (numbers.len(), near),
            (wanted.len(), None),
            "{}",
            device(index)
        );
        for (number, (.., payload)) in found.iter().enumerate() {
            assert_eq!(payload, line(index, number).trim_end().as_bytes());
        }
    }
}

fn device(index: usize) -> String {
    format!("pump-{index}")
}

fn line(device: usize, number: usize) -> String {
    format!("message {number} of device {device}\n")
}

/// Sends over a session from a thread until it is stopped. Returns how the program ended, and the number of messages.
fn send(
    fleet: &Fleet,
    index: usize,
    to: &ReservedPort,
    stop: &Arc<AtomicBool>,
) -> thread::JoinHandle<(Ended, usize)> {
    let name = device(index);
    fleet.device(&name);
    let mut command = blocksd(&[
        "send",
        "--session",
        "--device",
        &name,
        "--connect-timeout",
        "60",
    ]);
    command.args(["--to", &to.address().to_string(), "--tls-name", "localhost"]);
    for (option, file) in [
        ("--tls-ca", "ca.pem".to_owned()),
        ("--tls-cert", format!("{name}.pem")),
        ("--tls-key", format!("{name}.key")),
    ] {
        command.arg(option).arg(fleet.path(&file));
    }
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut process = Process::start(command);
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let lines: String = (count..count + 20)
                .map(|number| line(index, number))
                .collect();
            process.write_part(lines.as_bytes());
            count += 20;
            thread::sleep(Duration::from_millis(20));
        }
        process.write(b"");
        (process.end(), count)
    })
}

/// A daemon that forwards, at a port of its own.
struct Daemon {
    port: ReservedPort,
    record: PathBuf,
    server: Server,
}

impl Daemon {
    fn start(fleet: &Fleet, record: PathBuf, url: &str) -> Self {
        let port = ReservedPort::take();
        let server = Self::serve(fleet, &port, &record, url);
        Self {
            port,
            record,
            server,
        }
    }

    /// Kills it, and starts it again.
    fn restart(&mut self, fleet: &Fleet, url: &str) {
        self.server.process.signal("KILL");
        self.server = Self::serve(fleet, &self.port, &self.record, url);
    }

    fn serve(fleet: &Fleet, port: &ReservedPort, record: &Path, url: &str) -> Server {
        let listen = fleet.listen(&port.address().to_string(), ",proxy-from=127.0.0.0/8");
        let forward = format!("{url},durable=no,create=true,ack=forwarded");
        serve(
            record,
            &forward,
            &["--listen", &listen, "--record-sync", "20ms"],
        )
    }
}

/// haproxy, which passes connections on in turn, with the address of the device.
struct Balancer {
    program: Program,
    file: PathBuf,
    port: ReservedPort,
}

impl Balancer {
    fn new(program: &Program, folder: &Path, daemons: &[Daemon]) -> Self {
        let port = ReservedPort::take();
        let config = documented();
        let config = replace(&config, "balance source", "balance roundrobin");
        let mut config = replace(&config, "bind :1060", format!("bind {}", port.address()));
        config.truncate(config.find("  server ").expect("servers"));
        for (index, daemon) in daemons.iter().enumerate() {
            let address = daemon.port.address();
            writeln!(config, "  server daemon{index} {address} send-proxy-v2").expect("a string");
        }
        let file = folder.join("haproxy.cfg");
        fs::write(&file, config).expect("a file");
        let program = program.clone();
        Self {
            program,
            file,
            port,
        }
    }

    fn start(&self) -> Process {
        let mut command = self.program.command(&["-db", "-f"]);
        command.arg(&self.file);
        Process::start(command)
    }
}
