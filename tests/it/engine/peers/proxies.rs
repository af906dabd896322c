//! Proxies between devices and the daemon.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Process, blocksd};
use blocksd_tests::programs::Program;
use blocksd_tests::skip::skipped;
use socket2::{Domain, Socket, Type};

use super::{Daemon, documented, messages, replace, send_lines};

/// A port for a proxy that shares its port with this socket. The socket does not listen, so it gets no connection.
fn reserve() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("not bound yet");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    let addr = socket.local_addr().expect("bound");
    (socket, addr.as_socket().expect("of TCP"))
}

/// Connects, and retries until the proxy listens.
#[track_caller]
fn connect(addr: SocketAddr) -> TcpStream {
    let until = Instant::now() + DEADLINE;
    loop {
        match TcpStream::connect(addr) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "{addr}: {error}"),
        }
        sleep(Duration::from_millis(10));
    }
}

/// Runs two devices through proxies: one that only writes, and `blocksd send`. `proxy` makes the command of a proxy with
/// its files in this folder, this port, and this daemon as its target.
fn keeps_connections(proxy: impl Fn(&Path, SocketAddr, SocketAddr) -> Command + Sync) {
    let run = |framing: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let daemon = Daemon::start(&[framing]);
        let (_reserved, port) = reserve();
        let _proxy = Process::start(proxy(folder.path(), port, daemon.server.addr()));
        match framing {
            "lines" => write_only(daemon, port),
            _ => {
                let mut send = blocksd(&["send", "--framing", framing]);
                send.args(["--connect-timeout", "20", "--to", &port.to_string()]);
                send_lines(daemon, send, "end");
            }
        }
    };
    std::thread::scope(|scope| {
        for framing in ["lines", "blocks"] {
            scope.spawn(|| run(framing));
        }
    });
}

/// A device that only writes.
fn write_only(mut daemon: Daemon, to: SocketAddr) {
    let mut device = connect(to);
    daemon.receive(|message| {
        let sent = device.write_all(format!("{message}\n").as_bytes());
        sent.expect("the proxy reads");
    });
    drop(device);
    assert_eq!(daemon.end("eof"), [messages()]);
}

#[test]
fn nginx_keeps_the_connections_of_devices() {
    let name = "nginx_keeps_the_connections_of_devices";
    let Some(nginx) = Program::find(name, "nginx") else {
        return;
    };
    let module = nginx.file("/usr/lib/nginx/modules/ngx_stream_module.so");
    if !module.is_file() {
        skipped(name, format_args!("{} is missing", module.display()));
        return;
    }
    keeps_connections(|folder, port, daemon| {
        let stream = documented("nginx", 0);
        let stream = replace(&stream, "192.0.2.10:1060", &daemon.to_string());
        let stream = replace(&stream, "listen 1060", &format!("listen {port} reuseport"));
        let (module, here) = (module.display(), folder.display());
        let own = format!(
            "load_module {module};\ndaemon off;\nmaster_process off;\nerror_log stderr;\n\
             pid {here}/pid;\nevents {{}}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, own + &stream).expect("a file");
        let mut command = nginx.command(&["-e", "stderr", "-p"]);
        command.arg(folder).arg("-c").arg(file);
        command
    });
}

#[test]
fn haproxy_keeps_the_connections_of_devices() {
    let Some(haproxy) = Program::find("haproxy_keeps_the_connections_of_devices", "haproxy") else {
        return;
    };
    keeps_connections(|folder, port, daemon| {
        let all = documented("haproxy", 0);
        let all = replace(&all, "192.0.2.10:1060", &daemon.to_string());
        let all = replace(&all, "bind :1060", &format!("bind {port}"));
        // Shorter than the silence of the devices.
        let all = replace(&all, "-fin 30s", "-fin 200ms");
        let file = folder.join("haproxy.cfg");
        fs::write(&file, all).expect("a file");
        let mut command = haproxy.command(&["-db", "-f"]);
        command.arg(file);
        command
    });
}
