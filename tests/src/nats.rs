//! Servers of NATS as child processes ([`NatsServer`]), and a reader of a stream that nobody here wrote ([`read_stream`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::folder::copy_folder;
use crate::process::{Ended, Process, finish, python, wait_at_most, wait_until};
use crate::programs::Program;

/// The Python packages of the tests.
const PACKAGES: &str = "../target/python";

/// Which server of NATS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsVersion {
    /// The one that PyPI has.
    Current,
    /// 2.9, as Debian has it.
    Debian,
}

impl NatsVersion {
    /// Finds the program.
    ///
    /// # Errors
    /// Why a test that needs it is skipped.
    pub fn program(self) -> Result<PathBuf, String> {
        match self {
            Self::Current => {
                let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join(PACKAGES);
                let program = packages.join("bin/nats-server");
                let missing = || "`nats-server` is not among the Python packages".to_owned();
                program.exists().then_some(program).ok_or_else(missing)
            }
            Self::Debian => Ok(Program::locate("nats-server")?.path().to_owned()),
        }
    }

    /// Options of JetStream that let it acknowledge what is on the disk. 2.9 has none.
    pub(crate) const fn durable(self) -> &'static str {
        match self {
            Self::Current => ", sync_interval: always",
            Self::Debian => "",
        }
    }
}

/// A server with JetStream, on a port of its own. It keeps port and data over a restart.
#[derive(Debug)]
pub struct NatsServer {
    process: Option<Process>,
    folder: TempDir,
    version: NatsVersion,
    program: PathBuf,
    port: u16,
    /// The port in its configuration: -1 for one that the system chooses.
    listen: i32,
    /// Further lines of its configuration.
    config: String,
}

impl NatsServer {
    /// Starts a server alone, of the current version. Returns why that is not possible here.
    ///
    /// # Errors
    /// If the program is not installed.
    pub fn start() -> Result<Self, String> {
        Self::start_version(NatsVersion::Current)
    }

    /// Starts a server alone. Returns why that is not possible here.
    ///
    /// # Errors
    /// If the program is not installed.
    pub fn start_version(version: NatsVersion) -> Result<Self, String> {
        Self::start_as(version, "")
    }

    /// Starts a server alone, of the current version, with further lines of its configuration.
    ///
    /// # Errors
    /// If the program is not installed.
    pub fn start_with(config: &str) -> Result<Self, String> {
        Self::start_as(NatsVersion::Current, config)
    }

    fn start_as(version: NatsVersion, config: &str) -> Result<Self, String> {
        let mut server = Self {
            process: None,
            folder: TempDir::new().expect("a folder for temporary files"),
            version,
            program: version.program()?,
            // The system chooses.
            port: u16::MAX,
            listen: -1,
            config: config.to_owned(),
        };
        server.run();
        Ok(server)
    }

    /// The address for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What it has logged since its start.
    #[must_use]
    pub fn log(&self) -> String {
        let process = self.process.as_ref();
        process.map(Process::error_text).unwrap_or_default()
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            process.signal(name);
        }
    }

    /// Stops it for some time.
    pub fn pause(&self, time: Duration) {
        self.signal("STOP");
        thread::sleep(time);
        self.signal("CONT");
    }

    /// Kills it, and starts it again.
    pub fn restart(&mut self) {
        self.signal("KILL");
        self.process = None;
        self.run();
    }

    /// Kills it, copies what it has stored, and starts it again.
    pub fn restart_and_copy(&mut self, copy: &Path) {
        self.signal("KILL");
        self.process = None;
        copy_folder(&self.data(), copy);
        self.run();
    }

    /// Kills it, puts back what it had stored then, and starts it again: it has lost what came later.
    pub fn go_back(&mut self, copy: &Path) {
        self.signal("KILL");
        self.process = None;
        fs::remove_dir_all(self.data()).expect("a folder");
        copy_folder(copy, &self.data());
        self.run();
    }

    /// The folder with what it stores.
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Lets it read other further lines of its configuration, without a restart.
    pub fn reload(&mut self, config: &str) {
        config.clone_into(&mut self.config);
        self.configure();
        let log = "Reloaded server configuration";
        let reloads = self.log().matches(log).count();
        self.signal("HUP");
        wait_until("the configuration is read", || {
            reloads < self.log().matches(log).count()
        });
    }

    /// Writes the configuration.
    fn configure(&self) {
        let path = |name: &str| self.folder.path().join(name);
        let config = format!(
            "listen: \"127.0.0.1:{}\"\nports_file_dir: \"{}\"\njetstream {{ store_dir: \"{}\"{} }}\n{}\n",
            self.listen,
            path("ports").display(),
            self.data().display(),
            self.version.durable(),
            self.config
        );
        fs::write(path("nats.conf"), config).expect("a file");
    }

    fn run(&mut self) {
        let path = |name: &str| self.folder.path().join(name);
        let ports = path("ports");
        // Those of the process before.
        fs::remove_dir_all(&ports).ok();
        fs::create_dir(&ports).expect("a folder");
        self.listen = match self.port {
            u16::MAX => -1,
            port => i32::from(port),
        };
        self.configure();
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
pub fn read_stream(urls: &str, stream: &str) -> Vec<Value> {
    let mut text = String::new();
    // A cluster without a leader takes some attempts.
    wait_at_most(Duration::from_secs(60), "the stream is read", || {
        let read = nats_py("nats_read.py", &[urls, stream]);
        eprint!("{}", read.stderr);
        text = read.stdout_text();
        read.code == Some(0)
    });
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect()
}

/// Makes a stream for the subjects of all sites with nats-py.
#[track_caller]
pub fn make_stream(urls: &str, stream: &str, replicas: usize, window_s: u64) {
    let (replicas, window) = (replicas.to_string(), window_s.to_string());
    manage(&[urls, "make", stream, &replicas, &window]);
}

/// Deletes a stream with nats-py.
#[track_caller]
pub fn delete_stream(urls: &str, stream: &str) {
    manage(&[urls, "delete", stream]);
}

/// Deletes all messages of a subject with nats-py.
#[track_caller]
pub fn purge_subject(urls: &str, stream: &str, subject: &str) {
    manage(&[urls, "purge", stream, subject]);
}

/// Changes an option of a stream with nats-py.
#[track_caller]
pub fn change_stream(urls: &str, stream: &str, option: &str, value: &str) {
    manage(&[urls, "change", stream, option, value]);
}

/// Changes a stream. A cluster without a leader takes some attempts.
#[track_caller]
fn manage(args: &[&str]) {
    wait_at_most(Duration::from_secs(90), "the stream is changed", || {
        let ended = nats_py("nats_stream.py", args);
        eprint!("{}", ended.stderr);
        ended.code == Some(0)
    });
}

fn nats_py(script: &str, args: &[&str]) -> Ended {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = python(script, args);
    command.env("PYTHONPATH", manifest.join(PACKAGES));
    finish(command, b"")
}
