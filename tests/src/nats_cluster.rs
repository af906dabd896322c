//! Three servers of NATS with JetStream as one cluster, whose nodes and network can fail: a [`NatsCluster`].

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::link::{Condition, Link};
use crate::nats::NatsVersion;
use crate::process::{Process, wait_at_most};
use crate::reserved_port::ReservedPort;
use crate::small_disk::SmallDisk;

/// Number of nodes.
pub const NODES: usize = 3;
/// Size of the disk of a node, in MiB.
const DISK: usize = 256;
/// Time after which a node that does not answer is asked no more.
const PATIENCE: Duration = Duration::from_millis(500);
/// Lines of the log of a node that are shown.
const LOG: usize = 40;
/// Time within which nodes that reach each other agree on a leader. An attempt takes up to 9 s.
const ELECTION: Duration = Duration::from_secs(90);

/// A cluster on loopback. The nodes reach each other over [`Link`]s, one for each direction of each pair.
#[derive(Debug)]
pub struct NatsCluster {
    version: NatsVersion,
    program: PathBuf,
    nodes: Vec<Node>,
    /// From a node, to a node.
    links: BTreeMap<(usize, usize), Link>,
}

/// A node. It keeps its ports and its data over a restart.
#[derive(Debug)]
struct Node {
    process: Option<Process>,
    folder: TempDir,
    /// `None` if this user cannot mount.
    disk: Option<SmallDisk>,
    clients: ReservedPort,
    routes: ReservedPort,
    monitor: ReservedPort,
}

impl NatsCluster {
    /// Starts the nodes. They may not have a leader yet.
    ///
    /// # Errors
    /// If the program is not installed.
    pub fn start(version: NatsVersion) -> Result<Self, String> {
        let node = |_| Node {
            process: None,
            folder: TempDir::new().expect("a folder for temporary files"),
            disk: SmallDisk::of(DISK),
            clients: ReservedPort::take(),
            routes: ReservedPort::take(),
            monitor: ReservedPort::take(),
        };
        let nodes: Vec<_> = (0..NODES).map(node).collect();
        let mut links = BTreeMap::new();
        for (to, node) in nodes.iter().enumerate() {
            for from in (0..NODES).filter(|from| *from != to) {
                links.insert((from, to), Link::to(node.routes.address()));
            }
        }
        let mut cluster = Self {
            version,
            program: version.program()?,
            nodes,
            links,
        };
        for node in 0..NODES {
            cluster.run(node);
        }
        Ok(cluster)
    }

    /// The address of a node for clients.
    #[must_use]
    pub fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].clients.address()
    }

    /// The addresses of all nodes for clients.
    #[must_use]
    pub fn urls(&self) -> String {
        urls((0..NODES).map(|node| self.address(node)))
    }

    /// The leader of a stream, if most of the nodes that answer agree on it.
    #[must_use]
    pub fn leader(&self, stream: &str) -> Option<usize> {
        let mut votes = [0; NODES];
        for node in &self.nodes {
            let found = node.process.as_ref().and_then(|_| node.leader(stream).ok());
            if let Some(leader) = found.flatten() {
                *votes.get_mut(leader)? += 1;
            }
        }
        (0..NODES).find(|node| NODES / 2 < votes[*node])
    }

    /// Waits for a leader of a stream.
    #[track_caller]
    pub fn wait_for_leader(&self, stream: &str) -> usize {
        let mut leader = None;
        wait_at_most(ELECTION, "the stream has a leader", || {
            leader = self.leader(stream);
            leader.is_some()
        });
        leader.expect("found")
    }

    /// Kills a node.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].process = None;
    }

    /// Starts a node, unless it runs.
    pub fn run(&mut self, node: usize) {
        let others = self.links.iter().filter(|((from, _), _)| *from == node);
        let routes: Vec<_> = others
            .map(|(_, link)| format!("\"nats-route://{}\"", link.address()))
            .collect();
        let at = &mut self.nodes[node];
        if let Some(process) = &mut at.process
            && process.runs()
        {
            return;
        }
        let config = at.config(self.version, node, &routes.join(", "));
        let path = at.folder.path().join("nats.conf");
        fs::write(&path, config).expect("a file");
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(path);
        at.process = Some(Process::start(command));
    }

    /// Sends a signal to a node, such as `STOP`.
    pub fn signal(&self, node: usize, name: &str) {
        if let Some(process) = &self.nodes[node].process {
            process.signal(name);
        }
    }

    /// Changes the network between a node and the others.
    pub fn set_links(&self, node: usize, condition: Condition) {
        for ((from, to), link) in &self.links {
            if [from, to].contains(&&node) {
                link.set(condition);
            }
        }
    }

    /// Fills the disk of a node. Returns false if this user cannot mount.
    #[must_use]
    pub fn fill(&self, node: usize) -> bool {
        let disk = self.nodes[node].disk.as_ref();
        disk.map(SmallDisk::fill_whole).is_some()
    }

    /// Makes room on a disk that was [filled](Self::fill).
    pub fn make_room(&self, node: usize) {
        let disk = self.nodes[node].disk.as_ref();
        disk.expect("it was filled").make_room();
    }

    /// What a node has logged since its start.
    #[must_use]
    pub fn log(&self, node: usize) -> String {
        let process = self.nodes[node].process.as_ref();
        process.map(Process::error_text).unwrap_or_default()
    }

    /// What a node says about JetStream, and the end of its log.
    #[must_use]
    pub fn describe(&self, node: usize) -> String {
        let state = self.nodes[node].state();
        let log = self.log(node);
        let lines: Vec<_> = log.lines().rev().take(LOG).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("{state:?}\n{}", lines.join("\n"))
    }
}

impl Node {
    fn config(&self, version: NatsVersion, node: usize, routes: &str) -> String {
        let disk = self.disk.as_ref().map(SmallDisk::path);
        let data = disk.unwrap_or_else(|| self.folder.path()).join("data");
        // The nodes reach each other over the links only: what is advertised to others does not answer.
        format!(
            "server_name: node{node}\nlisten: \"{}\"\nhttp: \"{}\"\n\
             jetstream {{ store_dir: \"{}\", max_file_store: {DISK}MB{} }}\n\
             cluster {{ name: test, listen: \"{}\", advertise: \"127.0.0.1:1\", no_advertise: true, routes: [{routes}] }}\n",
            self.clients.address(),
            self.monitor.address(),
            data.display(),
            version.durable(),
            self.routes.address(),
        )
    }

    /// What it says about JetStream.
    fn state(&self) -> io::Result<Value> {
        let mut socket = TcpStream::connect_timeout(&self.monitor.address(), PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(b"GET /jsz?streams=true HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(serde_json::from_str(body)?)
    }

    /// The leader that it knows.
    fn leader(&self, stream: &str) -> io::Result<Option<usize>> {
        let found = self.state()?;
        let accounts = found["account_details"].as_array().into_iter().flatten();
        let mut streams =
            accounts.flat_map(|it| it["stream_detail"].as_array().into_iter().flatten());
        let of = streams.find(|it| it["name"] == stream);
        let leader = of.and_then(|it| {
            it["cluster"]["leader"]
                .as_str()?
                .strip_prefix("node")?
                .parse()
                .ok()
        });
        Ok(leader)
    }
}

/// Addresses as the option `--forward` takes them.
pub fn urls(addresses: impl IntoIterator<Item = SocketAddr>) -> String {
    let urls = addresses.into_iter().map(|it| format!("nats://{it}"));
    urls.collect::<Vec<_>>().join(",")
}
