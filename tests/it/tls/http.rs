//! `--http` with TLS: curl and Python read the page and the API.

use std::process::Command;

use blocksd_tests::pki::Fleet;
use blocksd_tests::process::{Server, finish};

fn start(fleet: &Fleet, ca: bool) -> (Server, String) {
    let path = |name: &str| fleet.path(name).display().to_string();
    let (cert, key) = (path("server.pem"), path("server.key"));
    let mut args = vec![
        "--http",
        "127.0.0.1:0",
        "--http-tls-cert",
        &cert,
        "--http-tls-key",
        &key,
    ];
    let authority = path("ca.pem");
    if ca {
        args.extend(["--http-tls-ca", &authority]);
    }
    let server = Server::start(&args);
    let log = server.process.error_text();
    let url = log.lines().find_map(|line| line.strip_prefix("page on "));
    let url = url.expect("the address").replace("127.0.0.1", "localhost");
    (server, url)
}

fn get(fleet: &Fleet, url: &str, more: &[&str]) -> (Option<i32>, String) {
    let code = "import ssl,sys,urllib.request as u\n\
        c=ssl.create_default_context(cafile=sys.argv[2])\n\
        if len(sys.argv)>3: c.load_cert_chain(*sys.argv[3:])\n\
        print(u.urlopen(sys.argv[1],context=c,timeout=20).read().decode())";
    let mut command = Command::new("python3");
    command.args(["-c", code, url]).arg(fleet.path("ca.pem"));
    command.args(more.iter().map(|name| fleet.path(name)));
    let ended = finish(command, b"");
    (ended.code, ended.stdout_text() + &ended.stderr)
}

#[test]
fn the_page_and_the_api_are_read_over_https() {
    let fleet = Fleet::new();
    let (server, url) = start(&fleet, false);
    assert!(url.starts_with("https://"), "{url}");
    for (path, words) in [
        ("", "<html"),
        ("api/v1/devices", "devices"),
        ("readyz", "ok"),
        ("metrics", "blocksd_"),
    ] {
        let (code, text) = get(&fleet, &format!("{url}{path}"), &[]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(words), "{path}: {text}");
    }
    // Plain HTTP gets no answer, and harms nothing.
    let (code, _) = get(&fleet, &url.replace("https", "http"), &[]);
    assert_ne!(code, Some(0));
    assert_eq!(get(&fleet, &url, &[]).0, Some(0));
    drop(server);
}

#[test]
fn clients_of_https_may_need_a_certificate() {
    let fleet = Fleet::new();
    fleet.device("viewer");
    let (server, url) = start(&fleet, true);
    assert_ne!(get(&fleet, &url, &[]).0, Some(0));
    let (code, text) = get(&fleet, &url, &["viewer.pem", "viewer.key"]);
    assert_eq!(code, Some(0), "{text}");
    drop(server);
}
