//! How to connect to the cluster of a configuration: [`options`], with the files that it names.

use std::fs;
use std::path::Path;

use blocksd_forward::{ConnectError, Credentials, NatsOptions};

use crate::config::forward::TO;
use crate::config::{ForwardConfig, ForwardLogin, ValueOrigin};
use crate::error::{CommandError, ForwardError};

/// How to connect to a cluster. Reads the files.
///
/// # Errors
/// If a file cannot be read, or has not what it is for.
pub(crate) fn options(config: &ForwardConfig) -> Result<NatsOptions, ForwardError> {
    let options = NatsOptions {
        servers: config.servers().to_vec(),
        credentials: credentials(config)?,
        ca: config.ca(),
        identity: config.identity(),
        ..nothing()
    };
    options.check().map_err(ForwardError::Client)?;
    Ok(options)
}

/// Checks the addresses and the files of a cluster without connecting: each for itself, to find all mistakes. Returns each
/// with where the option was given.
pub(crate) fn check(config: &ForwardConfig) -> Vec<(ValueOrigin, CommandError)> {
    let login = match config.login() {
        ForwardLogin::None => TO,
        ForwardLogin::User(..) => "password",
        ForwardLogin::Token(_) => "token",
        ForwardLogin::Nkey(_) => "nkey",
        ForwardLogin::Credentials(_) => "credentials",
    };
    let servers = NatsOptions {
        servers: config.servers().to_vec(),
        ..nothing()
    };
    let ca = NatsOptions {
        ca: config.ca(),
        ..nothing()
    };
    let identity = NatsOptions {
        identity: config.identity(),
        ..nothing()
    };
    let credentials = credentials(config).map(|credentials| NatsOptions {
        credentials,
        ..nothing()
    });
    let parts = [
        (TO, Ok(servers)),
        ("ca", Ok(ca)),
        ("cert", Ok(identity)),
        (login, credentials),
    ];
    let checked = parts.into_iter().filter_map(|(key, part)| {
        let checked = part.and_then(|part| part.check().map_err(ForwardError::Client));
        Some((config.origin_of(key), checked.err()?))
    });
    let to = config.servers().join(",");
    let named = |error| CommandError::Forward {
        to: to.clone(),
        error,
    };
    checked
        .map(|(origin, error)| (origin, named(error)))
        .collect()
}

/// Options of no server, without a login.
fn nothing() -> NatsOptions {
    NatsOptions {
        servers: Vec::new(),
        name: "blocksd".to_owned(),
        credentials: Credentials::None,
        ca: None,
        identity: None,
    }
}

/// Who the client is. Reads the file.
fn credentials(config: &ForwardConfig) -> Result<Credentials, ForwardError> {
    Ok(match config.login() {
        ForwardLogin::None => Credentials::None,
        ForwardLogin::User(user, password) => Credentials::User(user, line("password", &password)?),
        ForwardLogin::Token(token) => Credentials::Token(line("token", &token)?),
        ForwardLogin::Nkey(seed) => Credentials::Nkey(secret("nkey", &seed)?),
        ForwardLogin::Credentials(file) => Credentials::Jwt(secret("credentials", &file)?),
    })
}

/// The content of the file of an option.
fn secret(key: &'static str, path: &Path) -> Result<String, ForwardError> {
    let text = fs::read_to_string(path).map_err(|error| match may_be_a_path(path) {
        true => ForwardError::File {
            key,
            path: path.to_owned(),
            error,
        },
        false => ForwardError::NotAFile { key, error },
    })?;
    match text.trim_end() {
        "" => {
            let empty = format!("{key}: {}: the file is empty", path.display());
            Err(ForwardError::Client(ConnectError::Options(empty)))
        }
        text => Ok(text.to_owned()),
    }
}

/// The only line of the file of an option: a server compares every byte of it.
fn line(key: &'static str, path: &Path) -> Result<String, ForwardError> {
    let text = secret(key, path)?;
    match text.lines().count() {
        1 => Ok(text),
        count => {
            let many = format!(
                "{key}: {}: the file has {count} lines, and must have one, the {key}",
                path.display()
            );
            Err(ForwardError::Client(ConnectError::Options(many)))
        }
    }
}

/// Whether a value that names no file is meant as the path of one. Otherwise it may be the secret, which no message shows.
fn may_be_a_path(value: &Path) -> bool {
    value.is_absolute() || value.exists() || value.parent().is_some_and(Path::is_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_place_of_a_file_is_not_shown() {
        for value in [
            "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
            "s3/cret",
        ] {
            let error = secret("nkey", Path::new(value)).unwrap_err();
            assert!(!error.to_string().contains(value), "{error}");
        }
        let missing = secret("nkey", Path::new("/nowhere/seed")).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/seed"), "{missing}");
    }

    #[test]
    fn a_password_is_one_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            fs::write(file.path(), text).unwrap();
            line("password", file.path()).map_err(|error| error.to_string())
        };
        assert_eq!(read("s3cret\r\n"), Ok("s3cret".to_owned()));
        let refused = read("s3cret\n# of the plant\n").unwrap_err();
        assert!(refused.contains("has 2 lines"), "{refused}");
        assert!(!refused.contains("s3cret"), "{refused}");
    }
}
