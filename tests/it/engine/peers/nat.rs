//! A NAT between a device and the daemon: Linux's connection tracking, in network namespaces created by the test.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::process::{Process, Server, finish};
use blocksd_tests::programs::Program;
use blocksd_tests::skip::skipped;

use super::{Daemon, MESSAGES, messages};

/// Time for which the NAT keeps a half-closed connection, as set in [`SETTINGS`]. The default of `close_wait` is 60 s.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// Forwards packets, forgets half-closed connections after 1 s, and does not pick up a connection midway.
const SETTINGS: &str = "cd /proc/sys/net && echo 1 >ipv4/ip_forward && cd netfilter && \
    for state in fin_wait close_wait last_ack; do echo 1 >nf_conntrack_tcp_timeout_$state || exit 1; done && \
    echo 0 >nf_conntrack_tcp_loose";

/// Replaces the address of a device with that of the NAT, and drops packets of unknown connections.
const RULES: &[u8] = b"table ip nat {
    chain postrouting { type nat hook postrouting priority 100; oifname \"far\" masquerade; }
    chain forward { type filter hook forward priority 0; ct state invalid drop; }
}";

/// A network namespace. It has no name, and ends with the process that holds it: when this is dropped, or when the
/// test ends in any other way, since the process reads a pipe of the test.
struct Namespace(Process);

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo ready; exec cat"]);
        let holder = Process::start(command);
        holder.line("ready");
        Self(holder)
    }

    /// The same command, run in this namespace.
    fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net=/proc/{}/ns/net", self.0.id()));
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Runs a command in this namespace until it ends.
    fn run(&self, command: &[&str], stdin: &[u8]) -> Result<(), String> {
        let mut outside = Command::new(command[0]);
        outside.args(&command[1..]);
        succeed(self.command(&outside), stdin)
    }

    /// Connects this namespace to another with interfaces of these names and addresses.
    fn connect(
        &self,
        name: &str,
        address: &str,
        to: &Self,
        their_address: &str,
    ) -> Result<(), String> {
        let there = to.0.id().to_string();
        let link = [
            "ip", "link", "add", name, "type", "veth", "peer", "near", "netns", &there,
        ];
        self.run(&link, b"")?;
        for (namespace, name, address) in [(self, name, address), (to, "near", their_address)] {
            namespace.run(&["ip", "address", "add", address, "dev", name], b"")?;
            namespace.run(&["ip", "link", "set", name, "up"], b"")?;
        }
        Ok(())
    }
}

/// Runs a command until it ends. An exit code other than 0 is an error.
fn succeed(command: Command, stdin: &[u8]) -> Result<(), String> {
    let called = format!("{command:?}");
    let ended = finish(command, stdin);
    match ended.code {
        Some(0) => Ok(()),
        _ => Err(format!(
            "{called}: {}",
            ended.stderr.trim().replace('\n', "; ")
        )),
    }
}

/// A device, a NAT and a daemon, each in a namespace.
fn networks() -> Result<[Namespace; 3], String> {
    for program in ["unshare", "nsenter", "ip", "nft"] {
        let asked = Command::new(program).arg("--help").output();
        asked.map_err(|error| format!("`{program}`: {error}"))?;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "true"]);
    succeed(command, b"")?;
    let [device, nat, server] = [(); 3].map(|()| Namespace::new());
    nat.connect("home", "10.0.0.1/24", &device, "10.0.0.2/24")?;
    nat.connect("far", "192.0.2.1/24", &server, "192.0.2.10/24")?;
    device.run(&["ip", "route", "add", "default", "via", "10.0.0.1"], b"")?;
    nat.run(&["nft", "-f", "-"], RULES)?;
    nat.run(&["sh", "-c", SETTINGS], b"")?;
    Ok([device, nat, server])
}

#[test]
fn a_nat_keeps_the_connection_of_a_silent_device() {
    let name = "a_nat_keeps_the_connection_of_a_silent_device";
    let Some(nc) = Program::find(name, "nc.openbsd") else {
        return;
    };
    let [device, _nat, server] = match networks() {
        Ok(networks) => networks,
        Err(reason) => return skipped(name, reason),
    };
    let args = ["--listen", "192.0.2.10:0,framing=lines"];
    let command = server.command(&Server::command(&args));
    let server = Server::of(Process::start(command), &args);
    let port = server.addr().port().to_string();
    let mut daemon = Daemon::of(server, 1);
    // This nc continues after a FIN, so only the NAT can lose messages.
    let command = nc.command(&["-N", "192.0.2.10", &port]);
    let mut sender = Process::start(device.command(&command));
    let mut sent = 0;
    daemon.receive(|message| {
        if sent == MESSAGES / 2 {
            sleep(3 * HALF_CLOSED);
        }
        sent += 1;
        sender.write_part(format!("{message}\n").as_bytes());
    });
    sender.write(b"");
    assert_eq!(daemon.server.events()[0]["device"], "192.0.2.1");
    assert_eq!(daemon.end("eof"), [messages()]);
}
