//! Daemons that forward to one cluster, each over a network of its own, and what can happen to them: a [`Fleet`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use blocksd_tests::disk::Chance;
use blocksd_tests::link::{Condition, Link};
use blocksd_tests::nats::{NatsVersion, delete_stream, make_stream, read_stream};
use blocksd_tests::nats_cluster::{NODES, NatsCluster, urls};
use blocksd_tests::process::{Process, Server, run, wait_at_most};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::scrape;
use tempfile::TempDir;

use super::contents::Contents;

/// The stream.
const STREAM: &str = "blocksd";
/// Daemons.
const DAEMONS: usize = 2;
/// Devices. Each sends to any daemon, and to several.
const DEVICES: usize = 4;
/// Window of duplicates, in seconds. Many faults last longer.
const WINDOW_S: u64 = 1;
/// Time within which everything is forwarded after the last fault.
const RECOVERY: Duration = Duration::from_secs(180);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// `kill -9` of the leader, which is started again later.
    LeaderKilled,
    /// A node stands still: the leader, or another one.
    NodePaused,
    /// The leader does not reach the other nodes.
    LeaderAlone,
    /// A daemon does not reach the leader, or any node. It may be killed meanwhile.
    DaemonAlone,
    /// `kill -9` of a daemon.
    DaemonKilled,
    /// `kill -9` of a daemon and of the leader.
    BothKilled,
    /// `kill -9` of all nodes.
    AllRestarted,
    /// The disk of a node is full, or those of all.
    DiskFull,
    /// The stream is deleted, and made again.
    StreamMadeAgain,
    /// No daemon reaches the cluster for longer than it recognises duplicates.
    WindowExceeded,
}

impl Fault {
    /// Those that this version survives. If a stream is made again, and all nodes are restarted, nodes of 2.9 may find two assignments
    /// of the stream and no place for its log ("detected duplicate assignment", "No RAFT group"): it is without a leader for ever.
    pub(super) fn all(version: NatsVersion) -> Vec<Self> {
        let mut all = Self::ALL.to_vec();
        if version == NatsVersion::Debian {
            all.retain(|it| *it != Self::StreamMadeAgain);
        }
        all
    }

    const ALL: [Self; 10] = [
        Self::LeaderKilled,
        Self::NodePaused,
        Self::LeaderAlone,
        Self::DaemonAlone,
        Self::DaemonKilled,
        Self::BothKilled,
        Self::AllRestarted,
        Self::DiskFull,
        Self::StreamMadeAgain,
        Self::WindowExceeded,
    ];
}

/// A daemon, its recording, and its network to each node.
struct Daemon {
    record: PathBuf,
    port: ReservedPort,
    links: Vec<Link>,
    server: Option<Server>,
}

/// Daemons and a cluster.
pub(super) struct Fleet {
    cluster: NatsCluster,
    daemons: Vec<Daemon>,
    chance: Chance,
    /// Devices that are sending.
    senders: Vec<JoinHandle<Option<i32>>>,
    counts: Counts,
    folder: Option<TempDir>,
}

/// What has happened.
#[derive(Debug, Default)]
struct Counts {
    faults: BTreeMap<Fault, u64>,
    /// Nodes whose log says that the disk was full.
    full: u64,
    /// Requests of the daemons that failed, by their reason, up to their kills.
    failures: BTreeMap<String, f64>,
    /// Messages and events in the stream at its end.
    messages: usize,
    events: usize,
    /// Messages of the stream that hold them.
    stored: usize,
    starts: u64,
    /// Starts of a daemon that were refused.
    refusals: u64,
}

impl Fleet {
    /// Starts everything.
    ///
    /// # Errors
    /// If a program is not installed.
    pub(super) fn start(version: NatsVersion, seed: u64) -> Result<Self, String> {
        let cluster = NatsCluster::start(version)?;
        let folder = TempDir::new().expect("a folder for temporary files");
        make_stream(&cluster.urls(), STREAM, NODES, WINDOW_S);
        let daemon = |index| Daemon {
            record: folder.path().join(format!("daemon{index}")),
            port: ReservedPort::take(),
            links: (0..NODES).map(|it| Link::to(cluster.address(it))).collect(),
            server: None,
        };
        let daemons = (0..DAEMONS).map(daemon).collect();
        let mut fleet = Self {
            cluster,
            daemons,
            chance: Chance(seed),
            senders: Vec::new(),
            counts: Counts::default(),
            folder: Some(folder),
        };
        for daemon in 0..DAEMONS {
            fleet.run_daemon(daemon);
        }
        Ok(fleet)
    }

    /// A random number in this range.
    pub(super) fn chance(&mut self, from: usize, to: usize) -> usize {
        self.chance.of(from..=to)
    }

    /// One fault, while all devices send.
    pub(super) fn round(&mut self, fault: Fault) {
        for node in 0..NODES {
            self.cluster.run(node);
        }
        for device in 0..DEVICES {
            for _ in 0..self.chance(1, 2) {
                let daemon = self.chance(0, DAEMONS - 1);
                self.send(device, daemon);
            }
        }
        self.pause(0, 300);
        self.suffer(fault);
        *self.counts.faults.entry(fault).or_default() += 1;
        for sender in self.senders.drain(..) {
            assert_eq!(sender.join().expect("no panic"), Some(0), "{fault:?}");
        }
    }

    /// Waits until each recording is in the stream, exactly.
    pub(super) fn verify(&mut self) {
        for node in 0..NODES {
            self.cluster.run(node);
        }
        let wanted = self.recordings();
        let urls = self.cluster.urls();
        let mut found = Contents::default();
        wait_at_most(RECOVERY, "everything is forwarded", || {
            if self.daemons.iter().any(|it| 0.0 < it.backlog()) {
                thread::sleep(Duration::from_millis(100));
                return false;
            }
            found = Contents::of(&read_stream(&urls, STREAM));
            found.has_as_many_as(&wanted)
        });
        found.check(&wanted);
        found.check_events(&wanted);
    }

    /// Stops the daemons, and checks the stream once more: nothing was late. The events of the end may come after the next start.
    pub(super) fn end(mut self) -> String {
        for daemon in 0..DAEMONS {
            self.note_failures(daemon);
        }
        for daemon in &mut self.daemons {
            let (ended, _) = daemon.server.take().expect("it runs").stop();
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
        let wanted = self.recordings();
        let stream = read_stream(&self.cluster.urls(), STREAM);
        let found = Contents::of(&stream);
        found.check(&wanted);
        wanted.check_events(&found);
        self.counts.messages = found.count();
        self.counts.events = found.count_events();
        self.counts.stored = stream.len();
        self.counts.to_string()
    }

    fn recordings(&self) -> Contents {
        Contents::recorded(self.daemons.iter().map(|it| &*it.record))
    }

    fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::LeaderKilled => {
                let leader = self.leader();
                self.cluster.kill(leader);
                self.pause(0, 6000);
            }
            Fault::NodePaused => {
                let node = (self.leader() + self.chance(0, NODES - 1)) % NODES;
                self.cluster.signal(node, "STOP");
                self.hold();
                self.cluster.signal(node, "CONT");
            }
            Fault::LeaderAlone => {
                let leader = self.leader();
                let condition = self.interruption();
                self.cluster.set_links(leader, condition);
                self.hold();
                self.cluster.set_links(leader, Condition::Open);
            }
            Fault::DaemonAlone => self.leave_daemon_alone(),
            Fault::DaemonKilled => {
                let daemon = self.chance(0, DAEMONS - 1);
                self.kill_daemon(daemon);
                self.run_daemon(daemon);
            }
            Fault::BothKilled => {
                let (leader, daemon) = (self.leader(), self.chance(0, DAEMONS - 1));
                self.cluster.kill(leader);
                self.kill_daemon(daemon);
                self.run_daemon(daemon);
            }
            Fault::AllRestarted => {
                for node in 0..NODES {
                    self.cluster.kill(node);
                }
                self.pause(0, 2000);
                for node in 0..NODES {
                    self.cluster.run(node);
                }
            }
            Fault::DiskFull => self.fill_disks(),
            Fault::StreamMadeAgain => {
                delete_stream(&self.cluster.urls(), STREAM);
                self.pause(0, 500);
                make_stream(&self.cluster.urls(), STREAM, NODES, WINDOW_S);
            }
            Fault::WindowExceeded => {
                let condition = self.interruption();
                self.each_link(condition);
                self.pause(1500, 7000);
                self.each_link(Condition::Open);
            }
        }
    }

    fn leave_daemon_alone(&mut self) {
        let (leader, daemon) = (self.leader(), self.chance(0, DAEMONS - 1));
        let condition = self.interruption();
        let is_alone = self.chance(0, 1) == 0;
        let links = self.daemons[daemon].links.iter().enumerate();
        for (node, link) in links {
            if is_alone || node == leader {
                link.set(condition);
            }
        }
        self.hold();
        let is_killed = self.chance(0, 1) == 0;
        if is_killed {
            self.kill_daemon(daemon);
        }
        if is_killed && !is_alone {
            // What the killed one has sent arrives after what this one sends.
            self.run_daemon(daemon);
            self.pause(0, 2000);
        }
        for link in &self.daemons[daemon].links {
            link.set(Condition::Open);
        }
        self.run_daemon(daemon);
    }

    fn fill_disks(&mut self) {
        let all: Vec<_> = match self.chance(0, 2) {
            0 => (0..NODES).collect(),
            _ => vec![self.chance(0, NODES - 1)],
        };
        if !all.iter().all(|node| self.cluster.fill(*node)) {
            return;
        }
        for device in 0..DEVICES {
            let daemon = self.chance(0, DAEMONS - 1);
            self.send(device, daemon);
        }
        self.pause(1000, 5000);
        for node in all {
            let is_full = self.cluster.log(node).contains("no space left");
            self.counts.full += u64::from(is_full);
            // As an operator does it: such a node stays without JetStream until it is started again.
            self.cluster.make_room(node);
            self.cluster.kill(node);
            self.cluster.run(node);
        }
    }

    fn leader(&self) -> usize {
        self.cluster.wait_for_leader(STREAM)
    }

    fn each_link(&self, condition: Condition) {
        for link in self.daemons.iter().flat_map(|it| &it.links) {
            link.set(condition);
        }
    }

    fn interruption(&mut self) -> Condition {
        match self.chance(0, 1) {
            0 => Condition::Silent,
            _ => Condition::Cut,
        }
    }

    /// A short time, or one in which a cluster gives up a leader.
    fn hold(&mut self) {
        match self.chance(0, 1) {
            0 => self.pause(0, 1500),
            _ => self.pause(5000, 11_000),
        }
    }

    fn pause(&mut self, from_ms: usize, to_ms: usize) {
        let pause = self.chance(from_ms, to_ms);
        thread::sleep(Duration::from_millis(pause as u64));
    }

    /// Has a device send some lines to a daemon over a session of its own.
    fn send(&mut self, device: usize, daemon: usize) {
        let round = self.counts.faults.values().sum::<u64>();
        let count = self.chance(1, 200);
        let mut lines = String::new();
        for line in 0..count {
            let padding = ".".repeat(self.chance(0, 100));
            lines += &format!("{device} {daemon} {round} {line} {padding}\n");
        }
        if self.chance(0, 29) == 0 {
            // Longer than a message of the stream.
            let padding = ".".repeat(self.chance(200_000, 600_000));
            lines += &format!("{device} {daemon} {round} long {padding}\n");
        }
        let to = self.daemons[daemon].port.address().to_string();
        self.senders.push(thread::spawn(move || {
            let device = format!("device.{device}");
            let session = ["--session", "--device", &device, "--connect-timeout", "15"];
            let args = [&["send", "--to", &to], &session[..]].concat();
            run(&args, lines.as_bytes()).code
        }));
    }

    fn kill_daemon(&mut self, daemon: usize) {
        self.note_failures(daemon);
        let server = self.daemons[daemon].server.take().expect("it runs");
        server.process.signal("KILL");
    }

    /// Starts a daemon, unless it runs. As a service manager does, starts it again if the cluster refuses it.
    fn run_daemon(&mut self, daemon: usize) {
        let Daemon {
            record,
            port,
            links,
            server,
        } = &mut self.daemons[daemon];
        if server.is_some() {
            return;
        }
        let to = urls(links.iter().map(Link::address));
        let listen = port.address().to_string();
        let record = record.to_str().expect("UTF-8");
        let args = [
            "--listen",
            &listen,
            "--record",
            record,
            "--record-rotate-size",
            "64KiB",
            "--record-sync",
            "20ms",
            "--output",
            "none",
            "--metrics",
            "127.0.0.1:0",
            "--forward",
            &to,
        ];
        loop {
            self.counts.starts += 1;
            let mut process = Process::start(Server::command(&args));
            wait_at_most(RECOVERY, "the daemon listens, or is refused", || {
                !process.runs() || process.error_text().contains("listening on ")
            });
            if process.runs() {
                *server = Some(Server::of(process, &args));
                return;
            }
            let ended = process.end();
            assert_eq!(ended.code, Some(75), "{ended:?}");
            self.counts.refusals += 1;
            eprintln!("refused: {}", ended.stderr);
        }
    }

    /// Adds the failed requests of a daemon that is about to end.
    fn note_failures(&mut self, daemon: usize) {
        let Some(server) = &self.daemons[daemon].server else {
            return;
        };
        let page = scrape::get(scrape::addr(server), "/metrics").body;
        for (name, value) in scrape::samples(&page) {
            let reason = name.strip_prefix("blocksd_forward_failures_total");
            if let Some(reason) = reason
                && 0.0 < value
            {
                *self.counts.failures.entry(reason.to_owned()).or_default() += value;
            }
        }
    }
}

impl Daemon {
    /// Bytes that are not forwarded.
    fn backlog(&self) -> f64 {
        let server = self.server.as_ref().expect("it runs");
        let page = scrape::get(scrape::addr(server), "/metrics").body;
        let mut samples = scrape::samples(&page).into_iter();
        let found = samples.find(|(name, _)| name.starts_with("blocksd_forward_backlog_bytes"));
        found.expect("the metric").1
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            faults,
            full,
            failures,
            messages,
            events,
            stored,
            starts,
            refusals,
        } = self;
        let rounds: u64 = faults.values().sum();
        write!(
            f,
            "{rounds} rounds, {messages} messages and {events} events in {stored} messages of the stream, each once and in order; {starts} starts of a \
             daemon, {refusals} of them refused; {full} full disks; faults {faults:?}; failed requests {failures:?}"
        )
    }
}

/// On a failure, keeps the recordings, and shows the logs.
impl Drop for Fleet {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        if let Some(folder) = self.folder.take() {
            eprintln!("the recordings are kept in {}", folder.keep().display());
        }
        eprintln!("{}", self.counts);
        for daemon in &self.daemons {
            let text = daemon.server.as_ref().map(|it| it.process.error_text());
            eprintln!("{}: {}", daemon.record.display(), text.unwrap_or_default());
            if let Some(server) = &daemon.server {
                eprintln!("{:?}", scrape::get(scrape::addr(server), "/readyz"));
            }
        }
        for node in 0..NODES {
            eprintln!(
                "node {node}, with its last log:\n{}",
                self.cluster.describe(node)
            );
        }
    }
}
