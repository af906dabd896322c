//! Which addresses are taken by the command line itself: one address for two listeners can never be had.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::engine::listen::listener::Address;
use crate::engine::listen::path::{made_for, real};
use crate::engine::listen::resolve::resolve;
use crate::error::CommandError;

/// What listeners, and the metrics, are to listen on.
#[derive(Debug, Default)]
pub struct Claims(Vec<(Claim, String)>);

#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Network(SocketAddr),
    File(PathBuf),
    /// A folder that recording makes, or a file that it writes there.
    Recording(PathBuf),
    Stdin,
    Passed(Option<String>),
}

impl Claims {
    /// Takes an address, and finds whether it is taken already. Resolves names, and opens nothing.
    ///
    /// # Errors
    /// [`CommandError::Duplicate`]; [`CommandError::Listen`] where a name is not resolved.
    pub fn claim(&mut self, address: &Address, text: &str) -> Result<(), CommandError> {
        match address {
            Address::Tcp(address) => self.network(address),
            Address::Unix(path) => self.take(Claim::File(real(path)), text),
            Address::Serial(line) => self.take(Claim::File(real(Path::new(&line.path))), text),
            Address::Stdin => self.take(Claim::Stdin, text),
            Address::Systemd(name) => self.take(Claim::Passed(name.clone()), text),
        }
    }

    /// Takes the first address of a name that is free, as [`Binder`](crate::engine::listen::listener::Binder) does.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub fn network(&mut self, address: &str) -> Result<(), CommandError> {
        let failure = |error| CommandError::Listen {
            address: address.to_owned(),
            error,
        };
        let mut refused = None;
        for found in resolve(address).map_err(failure)? {
            match self.take(Claim::Network(found), address) {
                Ok(()) => return Ok(()),
                Err(failure) => refused = Some(failure),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Takes the folder to record to, the folders that are made for it, and `file` in it.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub fn recording(&mut self, folder: &Path, file: &str) -> Result<(), CommandError> {
        let text = format!("--record {}", folder.display());
        let folders = [real(folder), real(&folder.join(file))].into_iter();
        for path in folders.chain(made_for(folder)) {
            self.take(Claim::Recording(path), &text)?;
        }
        Ok(())
    }

    fn take(&mut self, claim: Claim, text: &str) -> Result<(), CommandError> {
        if let Some((_, first)) = self.0.iter().find(|(other, _)| claim.excludes(other)) {
            return Err(CommandError::Duplicate {
                first: first.clone(),
                again: text.to_owned(),
            });
        }
        self.0.push((claim, text.to_owned()));
        Ok(())
    }
}

impl Claim {
    /// Whether the system would not give both.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Network(one), Self::Network(other)) => overlap(*one, *other),
            (Self::Recording(_), Self::Recording(_)) => false,
            (Self::Recording(path), Self::File(file))
            | (Self::File(file), Self::Recording(path)) => path == file,
            (one, other) => one == other,
        }
    }
}

/// Whether one port of one address would be listened on twice. The system chooses another for each port 0.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: IpAddr, ip: IpAddr| {
        // `[::]` takes IPv4 as well.
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
    fn claim(texts: &[&str]) -> Result<(), CommandError> {
        let mut claims = Claims::default();
        texts
            .iter()
            .try_for_each(|text| claims.claim(&text.parse().unwrap(), text))
    }

    #[test]
    fn one_address_is_taken_once_however_it_is_written() {
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
                matches!(claimed, Err(CommandError::Duplicate { .. })),
                "{texts:?}: {claimed:?}"
            );
        }
    }

    #[test]
    fn different_addresses_are_both_taken() {
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
