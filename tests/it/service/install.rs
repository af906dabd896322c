//! The documented install, executed line by line on a fresh Debian; and the unit, under a real systemd.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use blocksd_tests::process::{Ended, Process, blocksd, finish};
use blocksd_tests::skip::{ran, skipped};
use tempfile::TempDir;

/// Packages of the fresh system besides its base.
const PACKAGES: &str = "systemd,systemd-sysv,systemd-container,dbus";
const SUITE: &str = "bookworm";

/// The PATH of root's shell.
const SEARCHED: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Time limit for a boot, and for a service to reach a state.
const PATIENCE: Duration = Duration::from_secs(60);

/// Replaces cargo: the program is already built.
const CARGO: &str = "#!/bin/sh
[ \"$*\" = 'build --release --locked --features parquet' ] || exit 1
install -D /src/built target/release/blocksd
";

/// Replaces systemctl where systemd does not run, so that nothing can be started.
pub(super) const SYSTEMCTL: &str = "#!/bin/sh
for word; do shift; [ \"$word\" = --now ] || set -- \"$@\" \"$word\"; done
SYSTEMD_OFFLINE=1 exec /bin/systemctl \"$@\"
";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The shell block of `docs/operations.md` that begins with this line.
pub(super) fn block(first: &str) -> String {
    let text = fs::read_to_string(project().join("docs/operations.md")).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split_once("\n```"));
    let block = blocks.find(|(block, _)| block.starts_with(first));
    block.unwrap_or_else(|| panic!("no block {first}")).0.into()
}

/// The folder of a fresh Debian below `target`, created once; or why it cannot be created.
fn debian() -> Result<PathBuf, String> {
    let folder = project().join("target/debian");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    // One of several tests creates it.
    let lock = File::create(folder.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let root = folder.join(format!("{SUITE}-{}", PACKAGES.replace(',', "-")));
    if root.exists() {
        return Ok(root);
    }
    let part = root.with_extension("part");
    fs::remove_dir_all(&part).ok();
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE]);
    command.arg(&part).stdin(Stdio::null());
    let made = command
        .output()
        .map_err(|error| format!("debootstrap: {error}"))?;
    if !made.status.success() {
        let shown = String::from_utf8_lossy(&made.stdout);
        return Err(format!(
            "debootstrap: {}",
            shown.lines().last().unwrap_or_default()
        ));
    }
    fs::rename(&part, &root).map_err(|error| error.to_string())?;
    Ok(root)
}

/// A temporary copy of the fresh system: an overlay in memory, in its own mount namespace.
pub(super) struct Scratch {
    holder: Process,
    folder: TempDir,
}

impl Scratch {
    pub(super) fn new() -> Result<Self, String> {
        if !is_root() {
            return Err("this user is not root".to_owned());
        }
        let debian = debian()?;
        let folder = TempDir::new().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
        command.arg(
            "mount -t tmpfs -o mode=0755 tmpfs \"$1\"; cd \"$1\"; mkdir above work root
             mount -t overlay -o \"lowerdir=$0,upperdir=$1/above,workdir=$1/work\" overlay root
             echo ready; exec cat",
        );
        command.arg(debian).arg(folder.path());
        let mut holder = Process::start(command);
        let until = Instant::now() + PATIENCE;
        while holder.printed() == 0 {
            if !holder.runs() || until < Instant::now() {
                return Err(format!("cannot mount: {}", holder.error_text().trim()));
            }
            sleep(Duration::from_millis(5));
        }
        let scratch = Self { holder, folder };
        let root = scratch.seen();
        let source = root.join("src/blocksd");
        fs::create_dir_all(source.join("host-daemon")).unwrap();
        let units = Command::new("cp")
            .arg("-r")
            .arg(project().join("host-daemon/systemd"))
            .arg(source.join("host-daemon"))
            .status();
        assert!(units.unwrap().success());
        fs::copy(blocksd(&[]).get_program(), root.join("src/built")).unwrap();
        scratch.put("usr/local/sbin/cargo", CARGO);
        let runs = scratch.run("/src/built --version");
        if runs.code != Some(0) {
            // Built on another system, with a newer C library.
            return Err(format!("the program does not run there: {}", runs.stderr));
        }
        Ok(scratch)
    }

    /// Its root, as seen from inside the namespace.
    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Its root, as seen from outside.
    pub(super) fn seen(&self) -> PathBuf {
        let inside = format!("/proc/{}/root{}", self.holder.id(), self.root().display());
        PathBuf::from(inside)
    }

    /// Writes an executable file into it.
    pub(super) fn put(&self, path: &str, text: &str) {
        let path = self.seen().join(path);
        fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).unwrap();
    }

    /// A program outside the root, run in the namespace.
    fn beside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string(), "--"]);
        command.arg(program);
        command
    }

    /// Runs shell lines in the root.
    pub(super) fn run(&self, lines: &str) -> Ended {
        let mut command = self.beside(Path::new("chroot"));
        command.arg(self.root()).args(["/bin/sh", "-exc"]);
        command.arg(format!("cd /src/blocksd\n{lines}"));
        command.env_clear().env("PATH", SEARCHED);
        finish(command, b"")
    }
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.contains("\nUid:\t0\t0\t")
}

/// A booted [`Scratch`] system; its processes end when it is dropped.
pub(super) struct Booted {
    _scratch: Scratch,
    /// Allows one at a time, since they would share a control group.
    _lock: File,
    manager: Process,
    /// The first process of the system, as seen from outside.
    init: String,
}

impl Booted {
    pub(super) fn boot(scratch: Scratch) -> Result<Self, String> {
        let lock = std::env::temp_dir().join("blocksd-nspawn.lock");
        let lock = File::create(lock).map_err(|error| error.to_string())?;
        lock.lock().map_err(|error| error.to_string())?;
        let root = scratch.seen();
        // The system's own, which fits its library.
        let nspawn = scratch.root().join("usr/bin/systemd-nspawn");
        let libraries = fs::read_dir(root.join("usr/lib")).map_err(|error| error.to_string())?;
        let libraries = libraries.filter_map(|entry| Some(entry.ok()?.file_name()));
        let libraries =
            libraries.map(|name| scratch.root().join("usr/lib").join(name).join("systemd"));
        let libraries = std::env::join_paths(libraries).map_err(|error| error.to_string())?;
        let mut command = scratch.beside(&nspawn);
        command.args(["--quiet", "--boot", "--register=no", "--console=pipe"]);
        command
            .args(["--private-network", "--directory"])
            .arg(scratch.root());
        command.arg(format!("--machine=blocksd-{}", std::process::id()));
        if !is_under_systemd() {
            command.arg("--keep-unit");
        }
        command.env("LD_LIBRARY_PATH", libraries);
        let mut manager = Process::start(command);
        let until = Instant::now() + PATIENCE;
        let init = loop {
            if let Some(init) = first_child(manager.id()) {
                break init;
            }
            if !manager.runs() || until < Instant::now() {
                return Err(format!("systemd-nspawn: {}", manager.error_text().trim()));
            }
            sleep(Duration::from_millis(50));
        };
        let booted = Self {
            _scratch: scratch,
            _lock: lock,
            manager,
            init,
        };
        let state = || booted.run("systemctl is-system-running").stdout_text();
        while !matches!(state().trim(), "running" | "degraded") {
            if until < Instant::now() {
                return Err(format!("it does not boot: {}", booted.manager.error_text()));
            }
            sleep(Duration::from_millis(200));
        }
        Ok(booted)
    }

    /// Runs shell lines in it.
    pub(super) fn run(&self, lines: &str) -> Ended {
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target", &self.init, "--", "/bin/sh", "-exc"]);
        command.arg(format!("cd /src/blocksd\n{lines}"));
        command.env_clear().env("PATH", SEARCHED);
        finish(command, b"")
    }

    /// The same, and asserts success.
    #[track_caller]
    pub(super) fn done(&self, lines: &str) -> String {
        let ended = self.run(lines);
        assert_eq!(ended.code, Some(0), "{ended:?}\n{}", self.journal());
        ended.stdout_text()
    }

    /// Waits until the output of the lines contains this.
    #[track_caller]
    pub(super) fn wait(&self, lines: &str, wanted: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.run(lines).stdout_text();
            if shown.contains(wanted) {
                return;
            }
            let late = until < Instant::now();
            assert!(!late, "{lines}: {shown}\n{}", self.journal());
            sleep(Duration::from_millis(100));
        }
    }

    fn journal(&self) -> String {
        self.run("journalctl --no-pager -u blocksd").stdout_text()
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // All its processes end with the first one.
        Command::new("kill").args(["-9", &self.init]).status().ok();
        let until = Instant::now() + PATIENCE;
        while self.manager.runs() && Instant::now() < until {
            sleep(Duration::from_millis(20));
        }
        if !is_under_systemd() {
            // Nothing else removes the control groups of the system.
            let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            let paths = own.lines().filter_map(|line| line.rsplit(':').next());
            for path in paths {
                for part in ["payload", "supervisor"] {
                    let script = "find /sys/fs/cgroup/*\"$0\" -maxdepth 0 -type d -exec find {} -depth -type d -delete \\;";
                    let mut command = Command::new("sh");
                    let group = format!("{}/{part}", path.trim_end_matches('/'));
                    command.args(["-c", script, &group]).stderr(Stdio::null());
                    command.status().ok();
                }
            }
        }
    }
}

fn is_under_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// The first child, in another PID namespace, of a process or of its descendants.
fn first_child(id: u32) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    let child = children.split_whitespace().next()?.to_owned();
    let of = |id: &str| fs::read_link(format!("/proc/{id}/ns/pid")).ok();
    (of(&child)? != of("self")?).then_some(child)
}

#[test]
fn the_documented_install_works_as_typed_on_a_fresh_debian() {
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(reason) => {
            skipped(
                "the_documented_install_works_as_typed_on_a_fresh_debian",
                reason,
            );
            return;
        }
    };
    scratch.put("usr/local/sbin/systemctl", SYSTEMCTL);
    let installed = scratch.run(&block("cargo build"));
    assert_eq!(installed.code, Some(0), "{installed:?}");
    assert!(
        installed
            .stdout_text()
            .contains("record to /var/lib/blocksd\nok\n"),
        "{installed:?}"
    );
    let commands =
        scratch.run("blocksd --help | sed -n '/^Commands:/,/^$/s/^  \\([a-z-]*\\) .*/\\1/p'");
    let commands = commands.stdout_text();
    assert!(commands.contains("serve\n"), "{commands}");
    let pages = scratch.seen().join("usr/local/share/man/man1");
    for command in commands.lines().filter(|command| *command != "help") {
        assert!(
            pages.join(format!("blocksd-{command}.1")).exists(),
            "{command}"
        );
    }
    assert!(pages.join("blocksd.1").exists());
    let wants = "etc/systemd/system/multi-user.target.wants/blocksd.service";
    assert!(scratch.seen().join(wants).symlink_metadata().is_ok());
    let completions = "usr/share/bash-completion/completions/blocksd";
    assert!(scratch.seen().join(completions).exists());
    // The documented removal.
    let removed = scratch.run(&block("systemctl disable"));
    assert_eq!(removed.code, Some(0), "{removed:?}");
    let left =
        scratch.run("find / -xdev -name 'blocksd*' ! -path '/src/*'; ls -d /etc/blocksd.toml");
    assert_eq!(
        left.stdout_text().trim(),
        "/etc/blocksd.toml\n/etc/blocksd.toml"
    );
}

#[test]
fn the_unit_runs_under_systemd() {
    let name = "the_unit_runs_under_systemd";
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(reason) => return skipped(name, reason),
    };
    // The unit must be valid for this version, whether or not it can be booted here.
    let verified = scratch.run(
        "install -D -m 0755 /src/built /usr/local/bin/blocksd
         systemd-analyze verify --man=no host-daemon/systemd/blocksd.service host-daemon/systemd/blocksd.socket",
    );
    assert_eq!(verified.code, Some(0), "{verified:?}");
    scratch.run("rm /usr/local/bin/blocksd");
    let system = match Booted::boot(scratch) {
        Ok(system) => system,
        Err(reason) => {
            return ran(
                name,
                format!("systemd-analyze verify only, no boot: {reason}"),
            );
        }
    };
    ran(name, "systemd-analyze verify, and a boot by systemd-nspawn");
    system.done(&block("cargo build"));
    is_collected_reloaded_and_restarted(&system);
    is_retried_while_the_environment_refuses(&system);
    is_not_retried_where_it_is_wrong(&system);
    system.done(&block("systemctl disable"));
}

#[track_caller]
fn is_collected_reloaded_and_restarted(system: &Booted) {
    system.wait("systemctl is-active blocksd", "active\n");
    system.done("blocksd send before");
    // Signals do not end it, and the reload is reported as done.
    system.done("systemctl kill -s HUP blocksd; systemctl kill -s USR1 blocksd");
    // The journal knows the priority of a warning, and the line has no time of its own.
    let warnings = "journalctl -u blocksd -p warning -o cat";
    system.wait(warnings, "SIGUSR1 ignored count=1\n");
    let warnings = system.done(warnings);
    assert!(
        warnings
            .lines()
            .any(|line| line == "SIGUSR1 ignored count=1"),
        "{warnings}"
    );
    assert!(!warnings.contains("listening on"), "{warnings}");
    system.wait("journalctl -u blocksd", "was read again");
    system
        .done("sed -i 's/^#log = .*/log = \"debug\"/' /etc/blocksd.toml; systemctl reload blocksd");
    system.wait("journalctl -u blocksd", "log: applied to");
    system.wait("systemctl is-active blocksd", "active\n");
    // A reload with an invalid configuration fails, and changes nothing.
    let refused = system.run("cp /etc/blocksd.toml /tmp; echo 'nonsense = 1' >> /etc/blocksd.toml; systemctl reload blocksd");
    assert_ne!(refused.code, Some(0), "{refused:?}");
    system.done("systemctl is-active blocksd; blocksd send between; cp /tmp/blocksd.toml /etc");
    system.done("systemctl restart blocksd; blocksd send after; systemctl stop blocksd");
    let read =
        system.done("blocksd verify /var/lib/blocksd; blocksd read --output raw /var/lib/blocksd");
    assert!(read.ends_with("beforebetweenafter"), "{read}");
    let ended = system.done("systemctl show -p Result,ExecMainStatus blocksd");
    assert_eq!(ended, "Result=success\nExecMainStatus=0\n");
}

#[track_caller]
fn is_retried_while_the_environment_refuses(system: &Booted) {
    // Another process has the port, so the start fails, and is retried automatically.
    system.done("systemd-run --quiet --unit=other blocksd server --port 1060");
    system.wait("journalctl -u other", "Listening at");
    let failed = system.run("systemctl start blocksd");
    assert_ne!(failed.code, Some(0), "{failed:?}");
    system.wait("systemctl show -p NRestarts blocksd", "NRestarts=3\n");
    system.wait(
        "systemctl show -p ExecMainStatus blocksd",
        "ExecMainStatus=75\n",
    );
    system.done("systemctl stop other");
    system.wait("systemctl is-active blocksd || true", "active\n");
    system.done("blocksd send late");
}

#[track_caller]
fn is_not_retried_where_it_is_wrong(system: &Booted) {
    let failed = system.run("echo 'nonsense = 1' >> /etc/blocksd.toml; systemctl restart blocksd");
    assert_ne!(failed.code, Some(0), "{failed:?}");
    sleep(Duration::from_secs(3));
    let state = system.done("systemctl show -p ActiveState,ExecMainStatus,NRestarts blocksd");
    for line in ["ActiveState=failed", "ExecMainStatus=2", "NRestarts=0"] {
        assert!(state.contains(line), "{state}");
    }
    assert!(system.journal().contains("nonsense: unknown key"));
}
