//! The Debian package and the tarballs of a release, on a fresh Debian: installed, started, upgraded, removed and purged.
//! `tests/release` makes them, and runs these tests; `tests/run` does not.

use std::fs;
use std::path::PathBuf;

use blocksd_tests::skip::{ran, skipped};

use super::install::{Booted, SYSTEMCTL, Scratch, block};

/// The environment variable that names the folder with the files of a release.
const RELEASE: &str = "BLOCKSD_RELEASE";

/// Files of the package that only a purge removes.
const CONFIG: &str = "/etc/blocksd.toml";

/// Prints every file of the package that is left, but for its recordings.
const LEFT: &str = "find / -xdev -iname '*blocksd*' ! -path '/src/*' ! -path '/var/lib/dpkg/*' ! -path '/var/lib/*/blocksd*' \
                    ! -path '/proc/*' ! -path '/sys/*' ! -path '/run/*' | sort";

#[test]
#[ignore = "tests/release makes the package"]
fn the_package_is_installed_and_removed_on_a_fresh_debian() {
    let scratch = match scratch() {
        Ok(scratch) => scratch,
        Err(reason) => {
            return skipped(
                "the_package_is_installed_and_removed_on_a_fresh_debian",
                reason,
            );
        }
    };
    scratch.put("usr/local/sbin/systemctl", SYSTEMCTL);
    let done = |lines: &str| {
        let ended = scratch.run(lines);
        assert_eq!(ended.code, Some(0), "{lines}: {ended:?}");
        ended.stdout_text()
    };
    done("dpkg --install /src/blocksd.deb");
    // Every file is as in the package.
    assert_eq!(done("dpkg --verify blocksd"), "");
    let checked = done("blocksd check-config /etc/blocksd.toml");
    assert!(checked.ends_with("ok\n"), "{checked}");
    let commands = done("blocksd --help | sed -n '/^Commands:/,/^$/s/^  \\([a-z-]*\\) .*/\\1/p'");
    assert!(commands.contains("serve\n"), "{commands}");
    for command in commands.lines().filter(|command| *command != "help") {
        let page = format!("usr/share/man/man1/blocksd-{command}.1.gz");
        assert!(scratch.seen().join(&page).exists(), "{page}");
    }
    for file in [
        "usr/share/man/man1/blocksd.1.gz",
        "usr/share/bash-completion/completions/blocksd",
        "usr/share/zsh/vendor-completions/_blocksd",
        "usr/share/fish/vendor_completions.d/blocksd.fish",
    ] {
        assert!(scratch.seen().join(file).exists(), "{file}");
    }
    done("systemd-analyze verify --man=no blocksd.service blocksd.socket");
    let wants = "etc/systemd/system/multi-user.target.wants/blocksd.service";
    assert!(scratch.seen().join(wants).symlink_metadata().is_ok());
    // An upgrade keeps a changed configuration, and an administrator's decision.
    done(
        "echo '#mine' >> /etc/blocksd.toml; systemctl disable blocksd; dpkg --install /src/blocksd.deb",
    );
    assert!(done("cat /etc/blocksd.toml").ends_with("#mine\n"));
    assert!(scratch.seen().join(wants).symlink_metadata().is_err());
    done("dpkg --remove blocksd");
    assert_eq!(done(LEFT).trim(), CONFIG);
    done("dpkg --purge blocksd");
    assert_eq!(done(LEFT), "");
    assert_eq!(
        done("find /var/lib/systemd /etc/systemd -iname '*blocksd*'"),
        ""
    );
}

#[test]
#[ignore = "tests/release makes the package"]
fn the_package_starts_the_service() {
    let name = "the_package_starts_the_service";
    let scratch = match scratch() {
        Ok(scratch) => scratch,
        Err(reason) => return skipped(name, reason),
    };
    let system = match Booted::boot(scratch) {
        Ok(system) => system,
        Err(reason) => return skipped(name, format!("no boot: {reason}")),
    };
    ran(name, "a boot by systemd-nspawn");
    system.done("dpkg --install /src/blocksd.deb");
    system.wait("systemctl is-active blocksd || true", "active\n");
    assert_eq!(system.done("systemctl is-enabled blocksd"), "enabled\n");
    system.done("blocksd send before");
    let started = "systemctl show -p ExecMainPID blocksd";
    let first = system.done(started);
    // An upgrade restarts it.
    system.done("dpkg --install /src/blocksd.deb");
    system.wait("systemctl is-active blocksd || true", "active\n");
    assert_ne!(system.done(started), first);
    system.done("blocksd send after; systemctl stop blocksd");
    let read =
        system.done("blocksd verify /var/lib/blocksd; blocksd read --output raw /var/lib/blocksd");
    assert!(read.ends_with("beforeafter"), "{read}");
    system.done("systemctl start blocksd; dpkg --purge blocksd");
    let running = system.run("systemctl is-active blocksd");
    assert_ne!(running.code, Some(0), "{running:?}");
    // The recordings remain.
    let recordings = system.done("ls /var/lib/private/blocksd");
    assert!(recordings.contains(".mcap"), "{recordings}");
}

#[test]
#[ignore = "tests/release makes the tarballs"]
fn the_tarballs_are_installed_as_documented() {
    const DOCUMENTED: &str = "x86_64-unknown-linux-musl";
    let name = "the_tarballs_are_installed_as_documented";
    let tarballs = match files(".tar.gz") {
        Ok(tarballs) => tarballs,
        Err(reason) => return skipped(name, reason),
    };
    for tarball in tarballs {
        let scratch = match Scratch::new() {
            Ok(scratch) => scratch,
            Err(reason) => return skipped(name, reason),
        };
        scratch.put("usr/local/sbin/systemctl", SYSTEMCTL);
        let file = tarball.file_name().unwrap().to_str().unwrap();
        let from = scratch.seen().join("src/blocksd");
        fs::copy(&tarball, from.join(file)).unwrap();
        let sums = tarball.with_file_name("SHA256SUMS");
        fs::copy(sums, from.join("SHA256SUMS")).unwrap();
        let target = file.trim_end_matches(".tar.gz").splitn(3, '-').nth(2);
        let lines = block("sha256sum --check --ignore-missing SHA256SUMS\ntar ");
        let lines = lines.replace(DOCUMENTED, target.unwrap());
        let installed = scratch.run(&lines);
        assert_eq!(installed.code, Some(0), "{file}: {installed:?}");
        let checked = scratch.run("blocksd check-config /etc/blocksd.toml; blocksd --version");
        assert_eq!(checked.code, Some(0), "{file}: {checked:?}");
        let removed = scratch.run(&block("systemctl disable"));
        assert_eq!(removed.code, Some(0), "{file}: {removed:?}");
        let left = scratch.run(LEFT);
        assert_eq!(left.stdout_text().trim(), CONFIG, "{file}");
    }
}

/// A fresh Debian with the package in `/src`.
fn scratch() -> Result<Scratch, String> {
    let package = files(".deb")?.remove(0);
    let scratch = Scratch::new()?;
    fs::copy(&package, scratch.seen().join("src/blocksd.deb"))
        .map_err(|error| format!("{}: {error}", package.display()))?;
    Ok(scratch)
}

/// The files of the release with this ending; at least one.
fn files(ending: &str) -> Result<Vec<PathBuf>, String> {
    let folder = std::env::var_os(RELEASE).ok_or_else(|| format!("{RELEASE} names no folder"))?;
    let files = fs::read_dir(folder).map_err(|error| format!("{RELEASE}: {error}"))?;
    let files = files.map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.to_str().is_some_and(|path| path.ends_with(ending)));
    let files: Vec<_> = files.collect();
    match files.is_empty() {
        true => Err(format!("the release has no file {ending}")),
        false => Ok(files),
    }
}
