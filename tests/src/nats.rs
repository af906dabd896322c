//! Servers of NATS as child processes ([`NatsServer`]), and a reader of a stream that nobody here wrote ([`read_stream`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, finish, python, wait_until};

/// The Python packages of the tests.
const PACKAGES: &str = "../target/python";

/// A server with JetStream, on a port of its own. It keeps port and data over a restart.
#[derive(Debug)]
pub struct NatsServer {
    process: Option<Process>,
    folder: TempDir,
    program: PathBuf,
    port: u16,
}

impl NatsServer {
    /// Starts a server alone. Returns why that is not possible here.
    ///
    /// # Errors
    /// If the program is not installed.
    pub fn start() -> Result<Self, String> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(PACKAGES)
            .join("bin/nats-server");
        if !program.exists() {
            return Err("`nats-server` is not among the Python packages".to_owned());
        }
        let mut server = Self {
            process: None,
            folder: TempDir::new().expect("a folder for temporary files"),
            program,
            // The system chooses.
            port: u16::MAX,
        };
        server.run();
        Ok(server)
    }

    /// The address for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            process.signal(name);
        }
    }

    /// Kills it, and starts it again.
    pub fn restart(&mut self) {
        self.signal("KILL");
        self.process = None;
        self.run();
    }

    fn run(&mut self) {
        let path = |name: &str| self.folder.path().join(name);
        let ports = path("ports");
        // Those of the process before.
        fs::remove_dir_all(&ports).ok();
        fs::create_dir(&ports).expect("a folder");
        let port = match self.port {
            u16::MAX => -1,
            port => i32::from(port),
        };
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\nports_file_dir: \"{}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
            ports.display(),
            path("data").display()
        );
        fs::write(path("nats.conf"), config).expect("a file");
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(path("nats.conf"));
        self.process = Some(Process::start(command));
        wait_until("the server listens", || {
            let mut files = fs::read_dir(&ports).expect("a folder");
            let file = files.next().and_then(Result::ok);
            let text = file.and_then(|it| fs::read_to_string(it.path()).ok());
            let found: Option<Value> = text.and_then(|it| serde_json::from_str(&it).ok());
            let url = found.as_ref().and_then(|it| it["nats"][0].as_str());
            let port = url.and_then(|it| it.rsplit_once(':')?.1.parse().ok());
            self.port = port.unwrap_or(self.port);
            port.is_some()
        });
    }
}

/// Reads a stream with nats-py: an object for each message.
#[track_caller]
pub fn read_stream(url: &str, stream: &str) -> Vec<Value> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = python("nats_read.py", &[url, stream]);
    command.env("PYTHONPATH", manifest.join(PACKAGES));
    let read = finish(command, b"");
    assert_eq!(read.code, Some(0), "{read:?}");
    let text = read.stdout_text();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect()
}
