//! Finds addresses that are configured twice, before anything is opened: [`Claims`].

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::listen::address::Address;
use crate::listen::path::{made_for, real};
use crate::listen::resolve::resolve;

/// Addresses and paths that a configuration uses. Claiming one twice is an error.
///
/// # Examples
/// ```
/// use blocksd_engine::listen::claims::Claims;
///
/// let mut claims = Claims::default();
/// claims.network("0.0.0.0:1060")?;
/// let error = claims.network("127.0.0.1:1060").unwrap_err();
/// assert_eq!(error.to_string(), "127.0.0.1:1060 is the same address as 0.0.0.0:1060");
/// # Ok::<(), blocksd_engine::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Claims(Vec<(Claim, String)>);

#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Network(SocketAddr),
    File(PathBuf),
    /// A folder to be created, or a file to be written in it.
    Folder(PathBuf),
    Stdin,
    Passed(Option<String>),
}

impl Claims {
    /// Claims an address. `text` names it in errors. Resolves host names, and opens nothing.
    ///
    /// # Errors
    /// [`Error::Duplicate`] if it is claimed already; [`Error::Listen`] if a host name cannot be resolved.
    pub fn claim(&mut self, address: &Address, text: &str) -> Result<(), Error> {
        match address {
            Address::Tcp(address) => self.network(address),
            Address::Unix(path) => self.take(Claim::File(real(path)), text),
            Address::Serial(line) => self.take(Claim::File(real(Path::new(&line.path))), text),
            Address::Stdin => self.take(Claim::Stdin, text),
            Address::Systemd(name) => self.take(Claim::Passed(name.clone()), text),
        }
    }

    /// Claims the first free address of a host name, as [`Binder`](crate::listen::listener::Binder) does.
    ///
    /// # Errors
    /// See [`claim`](Self::claim).
    pub fn network(&mut self, address: &str) -> Result<(), Error> {
        let failure = |source| Error::Listen {
            address: address.to_owned(),
            source,
        };
        let mut refused = None;
        for found in resolve(address).map_err(failure)? {
            match self.take(Claim::Network(found), address) {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Claims a folder to write to, the parent folders that must be created, and `file` in it. `text` names it in
    /// errors.
    ///
    /// # Errors
    /// See [`claim`](Self::claim).
    pub fn folder(&mut self, folder: &Path, file: &str, text: &str) -> Result<(), Error> {
        let folders = [real(folder), real(&folder.join(file))].into_iter();
        for path in folders.chain(made_for(folder)) {
            self.take(Claim::Folder(path), text)?;
        }
        Ok(())
    }

    fn take(&mut self, claim: Claim, text: &str) -> Result<(), Error> {
        if let Some((_, first)) = self.0.iter().find(|(other, _)| claim.excludes(other)) {
            return Err(Error::Duplicate {
                first: first.clone(),
                again: text.to_owned(),
            });
        }
        self.0.push((claim, text.to_owned()));
        Ok(())
    }
}

impl Claim {
    /// Whether the system would refuse to open both.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Network(one), Self::Network(other)) => overlap(*one, *other),
            (Self::Folder(_), Self::Folder(_)) => false,
            (Self::Folder(path), Self::File(file)) | (Self::File(file), Self::Folder(path)) => {
                path == file
            }
            (one, other) => one == other,
        }
    }
}

/// Whether two listeners would share a port of an address. Port 0 never overlaps: the system chooses a free port.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: IpAddr, ip: IpAddr| {
        // `[::]` accepts IPv4 connections as well.
        all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4())
    };
    let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    let is_same = ip == other_ip && scope(one) == scope(other);
    one.port() == other.port()
        && one.port() != 0
        && (is_same || covers(ip, other_ip) || covers(other_ip, ip))
}

fn scope(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn claim(texts: &[&str]) -> Result<(), Error> {
        let mut claims = Claims::default();
        texts
            .iter()
            .try_for_each(|text| claims.claim(&text.parse().unwrap(), text))
    }

    #[test]
    fn an_address_can_be_claimed_once_in_any_spelling() {
        for texts in [
            ["127.0.0.1:1060", "127.0.0.1:1060"],
            ["0.0.0.0:1060", "127.0.0.1:1060"],
            ["127.0.0.1:1060", "[::]:1060"],
            ["[::]:1060", "0.0.0.0:1060"],
            ["[::ffff:127.0.0.1]:1060", "127.0.0.1:1060"],
            ["unix:/tmp/a.sock", "unix:/tmp/../tmp/./a.sock"],
            ["serial:/dev/ttyX1?baud=9600", "serial:/dev/ttyX1"],
            ["-", "-"],
            ["systemd", "systemd"],
            ["systemd:a", "systemd:a"],
        ] {
            let claimed = claim(&texts);
            assert!(
                matches!(claimed, Err(Error::Duplicate { .. })),
                "{texts:?}: {claimed:?}"
            );
        }
    }

    #[test]
    fn different_addresses_can_both_be_claimed() {
        for texts in [
            ["127.0.0.1:0", "127.0.0.1:0"],
            ["127.0.0.1:1060", "127.0.0.1:1061"],
            ["127.0.0.1:1060", "127.0.0.2:1060"],
            ["0.0.0.0:1060", "[::1]:1060"],
            ["[fe80::1%1]:1060", "[fe80::1%2]:1060"],
            ["unix:/tmp/a.sock", "unix:/tmp/b.sock"],
            ["systemd", "systemd:a"],
        ] {
            assert!(claim(&texts).is_ok(), "{texts:?}");
        }
    }
}
