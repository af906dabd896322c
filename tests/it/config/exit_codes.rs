//! Exit codes: 2 for an invalid command line or file, 75 for a temporary refusal by the environment; `check-config` agrees.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use blocksd_tests::process::{DEADLINE, Process, Server, blocksd, finish, python, run};
use blocksd_tests::scrape;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

/// Exit code of a temporary refusal: `EX_TEMPFAIL`.
const REFUSED: i32 = 75;
/// The user `nobody`, who owns no files.
const NOBODY: &str = "65534";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Asserts that `serve` and `check-config` refuse the config with this exit code and these words.
#[track_caller]
fn assert_both(config: &str, code: i32, words: &str) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("blocksd.toml");
    fs::write(&file, config).unwrap();
    let checked = run(&["check-config", text(&file)], b"");
    checked.assert_refused(code, words);
    let served = run(&["serve", "--config", text(&file)], b"");
    assert_eq!(
        (served.code, &served.stderr),
        (checked.code, &checked.stderr),
        "{config}"
    );
}

#[test]
fn an_address_in_use_or_not_yet_available_is_a_temporary_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, words) in [
        (&["--listen", &taken][..], &*taken),
        (&["--listen", "127.0.0.1:0", "--metrics", &taken], &*taken),
        // An address reserved for documentation, which no machine has; and a name that does not exist.
        (&["--listen", "192.0.2.1:1060"], "192.0.2.1"),
        (&["--listen", "gateway.invalid:1060"], "gateway.invalid"),
        (
            &["--listen", "127.0.0.1:0", "--metrics", "gateway.invalid:1"],
            "gateway.invalid",
        ),
        (
            &["--listen", "[fe80::1%blocksd0]:1060"],
            "[fe80::1%blocksd0]",
        ),
        (&["--listen", "unix:/no/such/folder/d.sock"], "d.sock"),
    ] {
        let args = [&["serve"], args].concat();
        run(&args, b"").assert_refused(REFUSED, words);
    }
    // The same for the other commands.
    for args in [
        &["send", "--to", "gateway.invalid:1060", "x"][..],
        &["server", "gateway.invalid"],
        &["client", "gateway.invalid"],
    ] {
        run(args, b"").assert_refused(REFUSED, "gateway.invalid");
    }
}

#[test]
fn an_address_that_can_never_be_bound_is_an_error() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("notes");
    fs::write(&file, b"mine").unwrap();
    for listen in [
        "127.0.0.1",
        "127.0.0.1:65536",
        "256.1.1.1:1060",
        "http://host:80",
        ":1060",
        &format!("unix:{}", text(&file)),
        &format!("unix:{}/below", text(&file)),
        &format!("unix:/tmp/{}", "x".repeat(150)),
    ] {
        assert_both(&format!("listen = \"{listen}\""), 2, "");
    }
    let fifo = folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    for (path, what) in [
        ("/dev/null", "another device"),
        ("/dev/zero", "another device"),
        (text(&file), "a regular file"),
        (text(&fifo), "a FIFO"),
        (text(folder.path()), "a folder"),
    ] {
        let words = format!("it is {what}, and not a serial line");
        assert_both(&format!("listen = \"serial:{path}\""), 2, &words);
    }
    assert_both("metrics = \":9106\"", 2, "the host is missing");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn two_listeners_on_one_address_are_an_error_in_any_spelling() {
    let folder = TempDir::new().unwrap();
    let sock = folder.path().join("d.sock");
    let twice = format!(
        "\"unix:{0}\", \"unix:{1}/./d.sock\"",
        text(&sock),
        text(folder.path())
    );
    for listen in [
        "\"127.0.0.1:1060\", \"127.0.0.1:1060,framing=lines\"",
        "\"127.0.0.1:1060\", \"0.0.0.0:1060\"",
        "\"[::]:1060\", \"127.0.0.1:1060\"",
        "\"-\", \"-,framing=lines\"",
        "\"serial:/dev/ttyX9\", \"serial:/dev/ttyX9?baud=9600\"",
        "\"systemd\", \"systemd\"",
        &twice,
    ] {
        assert_both(&format!("listen = [{listen}]"), 2, "remove one of them");
    }
    let metrics = "listen = \"127.0.0.1:1060\"\nmetrics = \"127.0.0.1:1060\"";
    assert_both(metrics, 2, "is given twice");
}

#[test]
fn check_config_refuses_what_serve_refuses_where_it_can_know() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let link = folder.path().join("link");
    symlink(folder.path().join("not-mounted"), &link).unwrap();
    let (file, link) = (text(&file), text(&link));
    for (config, code, words) in [
        ("keepalive = 40000", 2, "from 1 to 32767"),
        ("keepalive = 0.5", 2, "from 1 to 32767"),
        ("log = \"loud\"", 2, "`loud`"),
        ("for = \"soon\"", 2, "`soon`"),
        ("reply = \"/nope\"", 2, "/nope"),
        ("decode = \"defmt:/nope\"", 2, "/nope"),
        ("record-max-bytes = 100000000", 2, "record = \"DIR\""),
        ("record-min-free = '1G'", 2, "record = \"DIR\""),
        (&format!("record = \"{file}\""), 2, file),
        (&format!("record = \"{file}/below\""), 2, file),
        (&format!("record = \"{link}\""), REFUSED, link),
        (
            "listen = \"unix:/no/such/folder/d.sock\"",
            REFUSED,
            "d.sock",
        ),
        ("listen = \"gateway.invalid:1\"", REFUSED, "gateway.invalid"),
    ] {
        assert_both(config, code, words);
    }
}

#[test]
fn a_locked_or_read_only_folder_is_a_temporary_failure() {
    let folder = TempDir::new().unwrap();
    let args = ["--listen", "127.0.0.1:0", "--record", text(folder.path())];
    let first = Server::start(&args[2..]);
    run(&[&["serve"], &args[..]].concat(), b"").assert_refused(REFUSED, "a daemon is recording");
    // A daemon is running while its next configuration is checked.
    let config = TempDir::new().unwrap();
    let file = config.path().join("blocksd.toml");
    fs::write(&file, format!("record = \"{}\"", text(folder.path()))).unwrap();
    let checked = run(&["check-config", text(&file)], b"");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(
        checked.stdout_text().contains("is recording to it now"),
        "{checked:?}"
    );
    first.stop();

    for command in ["serve --listen 127.0.0.1:0 --record", "serve --config"] {
        let disk = TempDir::new().unwrap();
        let target = if command.ends_with("--record") {
            disk.path()
        } else {
            fs::write(&file, format!("record = \"{}/a\"", text(disk.path()))).unwrap();
            &file
        };
        let mut read_only = Command::new("unshare");
        let script = "mount -t tmpfs -o ro none \"$1\" && shift && exec \"$@\"";
        read_only.args(["--mount", "sh", "-c", script, "sh", text(disk.path())]);
        read_only.arg(blocksd(&[]).get_program());
        read_only.args(command.split(' ')).arg(target);
        let ended = finish(read_only, b"");
        if ended.stderr.contains("unshare") || ended.stderr.contains("mount:") {
            skipped(
                "a_locked_or_read_only_folder_is_a_temporary_failure",
                "this user cannot mount a file system",
            );
            return;
        }
        ended.assert_refused(REFUSED, "Read-only file system");
    }
}

#[test]
fn a_folder_of_another_program_is_an_error() {
    let folder = TempDir::new().unwrap();
    let config = TempDir::new().unwrap();
    let file = config.path().join("blocksd.toml");
    let mode = |path: &Path, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(path, mode).unwrap();
    };
    mode(config.path(), 0o755);
    for key in ["record = \"", "listen = \"unix:"] {
        fs::write(&file, format!("{key}{}/a\"", text(folder.path()))).unwrap();
        mode(&file, 0o644);
        for args in [&["serve", "--config"][..], &["check-config"]] {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", NOBODY, "--clear-groups"]);
            command.arg(blocksd(&[]).get_program());
            command.args(args).arg(&file).stderr(Stdio::piped());
            let ended = finish(command, b"");
            if ended.stderr.contains("setpriv") {
                skipped(
                    "a_folder_of_another_program_is_an_error",
                    "this user cannot become another",
                );
                return;
            }
            ended.assert_refused(2, "Permission denied");
        }
    }
}

#[test]
fn a_port_that_needs_a_privilege_is_refused_with_the_capability() {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--clear-groups"]);
    command.arg(blocksd(&[]).get_program());
    command.args(["serve", "--listen", "127.0.0.1:1"]);
    let ended = finish(command, b"");
    let name = "a_port_that_needs_a_privilege_is_refused_with_the_capability";
    if ended.stderr.contains("setpriv") {
        return skipped(name, "this user cannot become another");
    }
    let hint = "cannot listen on 127.0.0.1:1: Permission denied (os error 13); a port below 1024 needs the capability \
                CAP_NET_BIND_SERVICE";
    ended.assert_refused(2, hint);
}

#[test]
fn a_folder_as_standard_input_is_refused() {
    let mut command = blocksd(&["serve", "--listen", "-"]);
    command.stdin(fs::File::open("/").unwrap());
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let wanted = "cannot listen on -: is a directory";
    assert!(
        String::from_utf8_lossy(&ended.stderr).contains(wanted),
        "{ended:?}"
    );
}

#[test]
fn the_socket_of_a_hung_process_is_in_use() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.sock");
    // The process listens and never accepts, and its queue is full.
    let hung = UnixListener::bind(&path).unwrap();
    socket2::SockRef::from(&hung).listen(0).unwrap();
    let full = || {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let address = socket2::SockAddr::unix(&path)?;
        socket.connect(&address).map(|()| socket)
    };
    let queue: Vec<_> = std::iter::from_fn(|| full().ok()).collect();
    assert!(!queue.is_empty());
    let listen = format!("unix:{}", path.display());
    run(&["serve", "--listen", &listen], b"").assert_refused(REFUSED, "in use");
    drop(queue);
    // A process with another kind of socket is alive too.
    drop(hung);
    fs::remove_file(&path).unwrap();
    let _datagram = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    run(&["serve", "--listen", &listen], b"").assert_refused(REFUSED, "in use");
    assert!(UnixStream::connect(&path).is_err() && path.exists());
}

#[test]
fn passed_sockets_that_cannot_accept_are_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let datagram = format!("datagram:{}/datagram", text(folder.path()));
    let program = blocksd(&[]);
    let program = program.get_program().to_str().unwrap();
    for (kind, words) in [
        ("connected", "Accept=no"),
        ("bound", "is not a listening socket"),
        ("udp", "ListenStream="),
        (&datagram, "ListenStream="),
        ("file", "ListenStream="),
    ] {
        let passed = format!("devices={kind}");
        let mut command = python("launcher.py", &[&passed, program, "serve"]);
        command.args(["--listen", "systemd:devices"]);
        let begin = Instant::now();
        let ended = finish(command, b"");
        ended.assert_refused(2, words);
        assert!(ended.stderr.contains("`devices`"), "{ended:?}");
        assert!(begin.elapsed() < DEADLINE);
    }
}

#[test]
fn the_default_listener_gets_the_sockets_that_no_other_names() {
    let program = blocksd(&[]);
    let program = program.get_program().to_str().unwrap();
    let args = ["--listen", "systemd", "--listen", "systemd:b,framing=lines"];
    let mut command = python("launcher.py", &["a=tcp,b=tcp", program, "serve"]);
    command.args(args).args(["--output", "json"]);
    let server = Server::of(Process::start(command), &args);
    assert_ne!(server.addr_of("lines"), server.addr_of("blocks"));
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn a_daemon_whose_only_reader_is_gone_reports_it_and_fails() {
    let mut command = Server::command(&[]);
    command.stdout(Stdio::piped());
    let mut server = Server::of(Process::start_unread(command), &[]);
    drop(server.process.take_stdout());
    let addr = server.addr();
    // Another process that is just being started may still have the pipe, so one message can be too early.
    for _ in 0..500 {
        if !server.process.runs() {
            break;
        }
        if let Ok(mut device) = std::net::TcpStream::connect(addr) {
            let _ = std::io::Write::write_all(&mut device, b"\0\0\0\x02hi\0\0\0\0");
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let ended = server.end().0;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("standard output was closed"),
        "{ended:?}"
    );
}

#[test]
fn a_daemon_whose_only_output_is_full_reports_it_and_fails() {
    let mut command = Server::command(&[]);
    command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    let server = Server::of(Process::start_unread(command), &[]);
    let mut device = server.connect();
    std::io::Write::write_all(&mut device, b"\0\0\0\x02hi\0\0\0\0").unwrap();
    let ended = server.end().0;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("No space left"), "{ended:?}");
}

#[test]
fn a_daemon_whose_only_reader_is_too_slow_at_the_end_fails() {
    let mut command = Server::command(&["--metrics", "127.0.0.1:0"]);
    command.stdout(Stdio::piped());
    let mut server = Server::of(Process::start_unread(command), &[]);
    let mut unread = server.process.take_stdout().unwrap();
    let mut device = server.connect();
    // More events than the pipe holds.
    let message = [&8_u32.to_be_bytes()[..], b"messages"].concat();
    std::io::Write::write_all(&mut device, &message.repeat(10_000)).unwrap();
    scrape::wait_for(&server, "blocksd_blocks_total", |blocks| 2_000.0 <= blocks);
    let ended = server.stop().0;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let mut shown = String::new();
    std::io::Read::read_to_string(&mut unread, &mut shown).unwrap();
    // The last line may be cut.
    let (shown, _) = shown.rsplit_once('\n').unwrap();
    let lines = shown.lines().count() as u64;
    let blocks = shown
        .lines()
        .filter(|it| it.contains("\"event\":\"block\""));
    let blocks = blocks.count() as u64;
    let [messages, others] = unshown(&ended.stderr);
    let received = ended.totals()["block"];
    assert_eq!(blocks + messages, received, "{ended:?}");
    // The open is shown; the close and perhaps a cut message are not.
    assert_eq!(lines, blocks + 1);
    let faults = ended.stderr.matches("truncated").count() as u64;
    assert!((1..=1 + faults).contains(&others), "{ended:?}");
}

/// The figures of the error about messages and other events that were not shown.
#[track_caller]
fn unshown(stderr: &str) -> [u64; 2] {
    let (_, text) = stderr.split_once("received and not shown: ").unwrap();
    let words: Vec<_> = text.split_whitespace().collect();
    [0, 3].map(|at| words[at].parse().unwrap())
}

#[test]
fn what_an_output_that_fails_has_not_shown_is_reported() {
    for _ in 0..3 {
        let mut command = Server::command(&[]);
        command.stdout(Stdio::piped());
        let mut server = Server::of(Process::start_unread(command), &[]);
        let mut stdout = server.process.take_stdout().unwrap();
        let mut device = server.connect();
        let message = [&8_u32.to_be_bytes()[..], b"messages"].concat();
        std::io::Write::write_all(&mut device, &message.repeat(10)).unwrap();
        // Reads a part, and goes away while more is sent.
        std::io::Read::read_exact(&mut stdout, &mut [0; 100]).unwrap();
        drop(stdout);
        std::io::Write::write_all(&mut device, &message.repeat(1000)).unwrap();
        let ended = server.end().0;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let [messages, others] = unshown(&ended.stderr);
        let received = ended.totals()["block"];
        assert!(
            received - 10 <= messages && messages <= received,
            "{ended:?}"
        );
        assert!(1 <= others, "{ended:?}");
    }
}

#[test]
fn a_reader_of_a_recording_may_close_its_pipe() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start(&["--record", text(folder.path())]);
    let mut device = server.connect();
    let message = [&1000_u32.to_be_bytes()[..], &[b'x'; 1000]].concat();
    std::io::Write::write_all(&mut device, &message.repeat(2_000)).unwrap();
    drop(device);
    server.wait_for("close", 1);
    server.stop();
    // Much more than the pipe holds.
    let all = run(&["read", text(folder.path())], b"").stdout.len();
    assert!(100_000 < all, "{all} bytes");
    let mut command = Command::new("sh");
    let script = "{ \"$0\" read \"$1\"; echo $? >&2; } | head -c 10 >/dev/null";
    command.args(["-c", script]);
    command.arg(blocksd(&[]).get_program()).arg(folder.path());
    let ended = finish(command, b"");
    assert_eq!(ended.stderr, "0\n", "{ended:?}");
}
