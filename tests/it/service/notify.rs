//! Notifications to the service manager: `Type=notify`, `Type=notify-reload` and the watchdog.

use std::io::Write;

use blocksd_tests::notify::Manager;
use blocksd_tests::process::{Process, Server};

#[test]
fn a_service_manager_is_notified_of_ready_watchdog_and_stopping() {
    for manager in [Manager::start(), Manager::with_abstract_socket()] {
        let mut command = Server::command(&["--metrics", "127.0.0.1:0"]);
        manager.supervise(&mut command);
        command.env("WATCHDOG_USEC", "30000");
        let process = Process::start(command);
        // It listens when it is ready, and notifies nothing before.
        assert_eq!(manager.notification(), "READY=1\n");
        let server = Server::of(process, &[]);
        server.connect();
        for _ in 0..3 {
            assert_eq!(manager.notification(), "WATCHDOG=1\n");
        }
        server.process.signal("TERM");
        while manager.notification() != "STOPPING=1\n" {}
        let ended = server.end().0;
        assert_eq!(ended.code, Some(0));
        assert!(!ended.stderr.contains("service manager"), "{ended:?}");
    }
}

#[test]
fn a_daemon_that_cannot_listen_is_never_ready() {
    let manager = Manager::start();
    let mut command = Server::command(&["--listen", "127.0.0.1:0", "--listen", "nowhere"]);
    manager.supervise(&mut command);
    assert_eq!(Process::start(command).end().code, Some(2));
    assert!(!manager.is_notified());
}

/// With `Type=notify-reload`, systemd waits for both notifications of a reload.
#[test]
fn a_reload_without_a_file_is_reported_too() {
    let manager = Manager::start();
    let mut command = Server::command(&[]);
    manager.supervise(&mut command);
    let server = Server::of(Process::start(command), &[]);
    assert_eq!(manager.notification(), "READY=1\n");
    server.process.signal("HUP");
    let begun = manager.notification();
    assert!(begun.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{begun}");
    let done = manager.notification();
    assert!(done.starts_with("STATUS=nothing to reload"), "{done}");
    assert!(done.ends_with("\nREADY=1\n"), "{done}");
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn a_daemon_that_ends_by_itself_reports_that_it_is_stopping() {
    let manager = Manager::start();
    let mut command = Server::command(&["--once"]);
    manager.supervise(&mut command);
    let server = Server::of(Process::start(command), &[]);
    assert_eq!(manager.notification(), "READY=1\n");
    server.connect().write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
    assert_eq!(manager.notification(), "STOPPING=1\n");
    assert_eq!(server.end().0.code, Some(0));
}

#[test]
fn a_service_manager_that_cannot_be_notified_is_one_warning() {
    for (socket, reason) in [
        ("/nowhere/notify", "No such file or directory"),
        ("@nowhere-of-blocksd", "Connection refused"),
        ("notify", "not an absolute path or `@NAME`"),
        ("@", "not an absolute path or `@NAME`"),
        ("vsock:2:1234", "not an absolute path or `@NAME`"),
    ] {
        let mut command = Server::command(&[]);
        command
            .env("NOTIFY_SOCKET", socket)
            .env("WATCHDOG_USEC", "20000");
        let server = Server::of(Process::start(command), &[]);
        server.process.wait_for_error("cannot notify");
        std::thread::sleep(std::time::Duration::from_millis(100));
        let ended = server.stop().0;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let warning =
            format!("cannot notify the service manager at NOTIFY_SOCKET={socket}: {reason}");
        assert!(ended.stderr.contains(&warning), "{ended:?}");
        assert_eq!(
            ended.stderr.matches("cannot notify").count(),
            1,
            "{ended:?}"
        );
    }
}

#[test]
fn an_invalid_watchdog_is_a_warning_and_an_empty_socket_is_none() {
    for usec in ["0", "soon", "-1"] {
        let mut command = Server::command(&[]);
        command.env("NOTIFY_SOCKET", "").env("WATCHDOG_USEC", usec);
        let server = Server::of(Process::start(command), &[]);
        server.process.wait_for_error("WATCHDOG_USEC is ignored");
        let ended = server.stop().0;
        assert!(!ended.stderr.contains("cannot notify"), "{ended:?}");
    }
}
