//! `blocksd ca` that is killed at any step, and many of them at once: nothing is lost, and what there is works.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use blocksd_tests::authority::{Authority, Snapshot, assert_kept};
use blocksd_tests::bad_disk::BadDisk;
use blocksd_tests::process::{Process, finish};

/// Commands that are interrupted, each after those before it.
const COMMANDS: [&[&str]; 9] = [
    &["init", "ca"],
    &["device", "ca", "a", "--format", "rust"],
    &["server", "ca", "s", "127.0.0.1"],
    &["renew", "ca", "a"],
    &["revoke", "ca", "a"],
    &["device", "ca", "a"],
    &["crl", "ca"],
    &["renew", "ca", "s"],
    &["device", "ca", "a:b", "--format", "c"],
];

#[test]
fn a_command_that_is_killed_at_any_step_leaves_something_that_works() {
    let name = "a_command_that_is_killed_at_any_step_leaves_something_that_works";
    let (Some(ca), Some(disk)) = (Authority::without(name), BadDisk::build(name)) else {
        return;
    };
    let mut kills = 0;
    for command in COMMANDS {
        let before = ca.snapshot();
        for step in 1.. {
            let mut killed = disk.failing("BAD_SYNC_KILLS", step.to_string(), ca.command(command));
            // Permissions are right from the start.
            let program = killed.get_program().to_owned();
            let mut shell = Command::new("sh");
            shell
                .args(["-c", "umask 0; exec \"$0\" \"$@\""])
                .arg(program);
            shell.args(killed.get_args()).current_dir(ca.place());
            for (key, value) in killed.get_envs() {
                if let Some(value) = value {
                    shell.env(key, value);
                }
            }
            killed = shell;
            let ended = finish(killed, b"");
            check(&ca, &before, command);
            match ended.code {
                None => kills += 1,
                Some(code) => {
                    assert_eq!(code, 0, "{command:?}: {ended:?}");
                    break;
                }
            }
            // Repeated, the command succeeds. The next step begins where this one began.
            let cut = ca.snapshot();
            let again = finish(ca.command(command), b"");
            let is_done = again.stderr.contains("exists, and is not overwritten")
                || again.stderr.contains("was revoked at");
            assert!(
                again.code == Some(0) || is_done,
                "{command:?} step {step}: {again:?}"
            );
            assert_kept(&cut, &ca.snapshot());
            check(&ca, &before, command);
            restore(&ca, &before);
        }
    }
    assert!(40 < kills, "{kills} kills");
}

/// Puts the folder into an earlier state.
fn restore(ca: &Authority, before: &Snapshot) {
    let _ = fs::remove_dir_all(ca.file(""));
    for (path, (bytes, mode)) in before {
        use std::os::unix::fs::PermissionsExt as _;
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
    }
}

/// Checks that each certificate is in the index and signed by the authority, that keys belong to certificates that are not
/// revoked, and that nothing of before is lost.
#[track_caller]
fn check(ca: &Authority, before: &Snapshot, command: &[&str]) {
    let files = ca.snapshot();
    assert_kept(before, &files);
    let has_key = |path: &std::path::Path, bytes: &[u8]| {
        let name = path.display().to_string();
        !name.contains(".pem") && String::from_utf8_lossy(bytes).contains("PRIVATE KEY")
    };
    for (path, (bytes, mode)) in &files {
        if has_key(path, bytes) {
            assert_eq!(*mode, 0o600, "{}", path.display());
        }
    }
    if !ca.file("ca.pem").exists() {
        assert_eq!(command[0], "init");
        return;
    }
    let entries = ca.list();
    let of = |key: &str| -> BTreeSet<String> {
        let of_entry = |entry: &serde_json::Value| Some(entry.get(key)?.as_str()?.to_owned());
        entries.iter().filter_map(of_entry).collect()
    };
    let serials = of("serial");
    let revoked: BTreeSet<_> = entries
        .iter()
        .filter(|entry| entry["state"] == "revoked")
        .map(|entry| entry["serial"].as_str().unwrap().to_owned())
        .collect();
    let listed = ca.revoked();
    assert!(listed.is_subset(&revoked));
    // Between its two steps, `revoke` has written the index and not yet the list.
    assert!(
        listed == revoked || command[0] == "revoke",
        "{listed:?} {revoked:?}"
    );
    for path in files.keys() {
        let file = path.to_str().unwrap();
        let parent = path.parent().unwrap().file_name().unwrap();
        if !file.contains(".pem") || file.contains(".%new-") || parent == "ca" {
            continue;
        }
        let serial = ca.openssl_text(&["x509", "-in", file, "-noout", "-serial"]);
        let serial = serial.trim().trim_start_matches("serial=").to_lowercase();
        assert!(serials.contains(&serial), "{file}");
        let purpose = if parent == "server" {
            "sslserver"
        } else {
            "sslclient"
        };
        assert_eq!(
            ca.verdict(file, purpose).is_ok(),
            !listed.contains(&serial),
            "{file}"
        );
        if file.ends_with(".pem") && !revoked.contains(&serial) {
            let key = file.replace(".pem", ".key");
            let public = ca.openssl_text(&["pkey", "-in", &key, "-pubout"]);
            let certified = ca.openssl_text(&["x509", "-in", file, "-noout", "-pubkey"]);
            assert_eq!(public, certified, "{file}");
        }
    }
}

#[test]
fn commands_that_run_at_once_do_not_disturb_each_other() {
    const DEVICES: usize = 12;
    let Some(ca) = Authority::new("commands_that_run_at_once_do_not_disturb_each_other") else {
        return;
    };
    let ids: Vec<_> = (0..DEVICES).map(|it| format!("d-{it}")).collect();
    let start = |args: &[&str]| Process::start(ca.command(args));
    let different: Vec<_> = ids.iter().map(|id| start(&["device", "ca", id])).collect();
    let same: Vec<_> = (0..4).map(|_| start(&["device", "ca", "same"])).collect();
    for process in different {
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let same: Vec<_> = same.into_iter().map(Process::end).collect();
    assert_eq!(
        same.iter().filter(|it| it.code == Some(0)).count(),
        1,
        "{same:?}"
    );
    let refused = same
        .iter()
        .filter(|it| it.stderr.contains("exists, and is not overwritten"));
    assert_eq!(refused.count(), 3, "{same:?}");
    let entries = ca.list();
    let serials: BTreeSet<_> = entries.iter().map(|it| it["serial"].to_string()).collect();
    assert_eq!((entries.len(), serials.len()), (DEVICES + 1, DEVICES + 1));
    let revoking = ids.iter().map(|id| start(&["revoke", "ca", id]));
    for process in revoking.collect::<Vec<_>>() {
        assert_eq!(process.end().code, Some(0));
    }
    assert_eq!(ca.revoked().len(), DEVICES);
    // Two that make an authority at once: one does.
    let makers: Vec<_> = (0..4).map(|_| start(&["init", "other"])).collect();
    let made: Vec<_> = makers.into_iter().map(|it| it.end().code).collect();
    assert_eq!(
        made.iter().filter(|code| **code == Some(0)).count(),
        1,
        "{made:?}"
    );
    let args = [
        "verify",
        "-x509_strict",
        "-CAfile",
        "other/ca.pem",
        "other/ca.pem",
    ];
    assert_eq!(ca.openssl(&args).code, Some(0));
    assert_eq!(finish(ca.command(&["crl", "other"]), b"").code, Some(0));
}

#[test]
fn a_leftover_of_a_killed_command_is_removed() {
    let Some(ca) = Authority::new("a_leftover_of_a_killed_command_is_removed") else {
        return;
    };
    for file in ["device/.%new-abc", ".%new-abc"] {
        fs::write(ca.file(file), "part of a key").unwrap();
    }
    // A key without a certificate was never given to a device; it is kept, but not used.
    fs::write(ca.file("device/a.key"), "old").unwrap();
    let request = [
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let files = ["-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=x"];
    ca.openssl_text(&[&request[..], &files].concat());
    let refused = ca.run(&["device", "ca", "a", "--csr", "own.csr"]);
    refused.assert_refused(2, "it may not be the key of the request");
    ca.ok(&["device", "ca", "a"]);
    assert_eq!(fs::read(ca.file("device/a.key.1")).unwrap(), b"old");
    assert!(!ca.file("device/.%new-abc").exists() && !ca.file(".%new-abc").exists());
}
