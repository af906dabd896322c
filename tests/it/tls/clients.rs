//! Starts a daemon with TLS, and clients that nobody here wrote.

use std::process::Command;

use blocksd_tests::pki::Fleet;
use blocksd_tests::process::{self, Server};

/// A daemon with a listener that has the server of a fleet.
pub(super) fn listening(fleet: &Fleet, options: &str, args: &[&str]) -> Server {
    let listen = fleet.listen("127.0.0.1:0", options);
    let all = [&["--listen", &listen][..], args].concat();
    Server::start(&all)
}

/// A client in Python, with the certificate in `FILE.pem`, or without one for `-`.
pub(super) fn python(
    fleet: &Fleet,
    server: &Server,
    file: &str,
    version: &str,
    action: &str,
) -> Command {
    let path = |name: String| fleet.path(&name).display().to_string();
    let (cert, key) = match file {
        "-" => ("-".to_owned(), "-".to_owned()),
        file => (path(format!("{file}.pem")), path(format!("{file}.key"))),
    };
    let port = server.addr().port().to_string();
    let ca = path("ca.pem".to_owned());
    process::python("tls_peer.py", &[&port, &ca, &cert, &key, version, action])
}

/// `openssl s_client`, with the certificate in `FILE.pem`. It ends at the end of its standard input, or when it is refused.
pub(super) fn openssl(
    fleet: &Fleet,
    server: &Server,
    file: Option<&str>,
    args: &[&str],
) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-verify_return_error", "-connect"]);
    command.arg(server.addr().to_string());
    command.arg("-CAfile").arg(fleet.path("ca.pem"));
    if let Some(file) = file.filter(|file| *file != "-") {
        command.arg("-cert").arg(fleet.path(&format!("{file}.pem")));
        command.arg("-key").arg(fleet.path(&format!("{file}.key")));
    }
    command.args(args);
    command
}
