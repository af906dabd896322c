//! The servers of a cluster as they are written: [`servers`].

use crate::config::forward::{KEYS, SECRETS, is_word};

/// The beginnings of an address.
const SCHEMES: [&str; 2] = ["nats://", "tls://"];
/// The port of an address without one.
const PORT: &str = "4222";

/// The addresses of servers, and why others of them cannot be used, each reason once. A server without a scheme has that
/// of the one before it.
pub(super) fn servers(written: &[&str]) -> (Vec<String>, Vec<String>) {
    let mut scheme = "";
    let (mut all, mut mistakes) = (Vec::new(), Vec::new());
    for server in written.iter().map(|it| it.trim()) {
        let reason = match server_of(server, &mut scheme) {
            Ok(server) => {
                all.push(server);
                continue;
            }
            Err(reason) => reason,
        };
        if !mistakes.contains(&reason) {
            mistakes.push(reason);
        }
    }
    if written.is_empty() {
        mistakes.push("a server is missing, such as nats://HOST:PORT".to_owned());
    }
    (all, mistakes)
}

/// What a server is compared by: its host and port.
pub(super) fn host_and_port(server: &str) -> String {
    let mut host = server;
    for scheme in SCHEMES {
        host = host.strip_prefix(scheme).unwrap_or(host);
    }
    let host = host.to_ascii_lowercase();
    // Colons within brackets are those of the host.
    let after = host.rsplit(']').next().unwrap_or_default();
    match after.contains(':') {
        true => host,
        false => format!("{host}:{PORT}"),
    }
}

/// One server.
fn server_of<'a>(server: &'a str, scheme: &mut &'a str) -> Result<String, String> {
    if server.contains('@') {
        return Err(SECRETS.to_owned());
    }
    if server.is_empty() {
        return Err("an address is empty; remove it, or write nats://HOST:PORT".to_owned());
    }
    // The value is not shown, since it may be a secret.
    if let Some((key, _)) = server.split_once('=')
        && is_word(key)
    {
        let place = match KEYS.contains(&key) {
            true => format!("write `{key}` as a key of the table"),
            false => "options are keys of the table".to_owned(),
        };
        return Err(format!(
            "`{key}=` is an option, and not the address of a server; {place}"
        ));
    }
    if KEYS.contains(&server) {
        let value = match server {
            "durable" | "create" => "true",
            _ => "VALUE",
        };
        return Err(format!(
            "`{server}` is an option, and not the address of a server; write `{server}={value}`, or `{server}:{PORT}` if a host has \
             this name"
        ));
    }
    let wrong = || format!("`{server}`: a server is nats://HOST:PORT or tls://HOST:PORT");
    let host = match SCHEMES.into_iter().find(|it| server.starts_with(it)) {
        Some(found) => {
            *scheme = found;
            server.strip_prefix(found).unwrap_or_default()
        }
        None if scheme.is_empty() || server.contains("://") => return Err(wrong()),
        None => server,
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    if host.is_empty() || host.starts_with(':') {
        return Err(format!("`{server}`: the host is missing"));
    }
    let is_of_host = |it: char| it.is_alphanumeric() || "-._:[]%".contains(it);
    match host.chars().all(is_of_host) {
        true => Ok(format!("{scheme}{host}")),
        false => Err(wrong()),
    }
}
