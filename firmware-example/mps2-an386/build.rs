//! Writes `memory.x` and the credentials of TLS, and passes the linker scripts to the linker.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs};

/// The file with the certificates and the key of the device, as `blocksd ca device --format rust` writes it.
const DEVICE: &str = "FIRMWARE_TLS_DEVICE";
/// The name that the certificate of the server must have.
const SERVER: &str = "FIRMWARE_TLS_SERVER";
/// The time of the build, in s since 1970, if it is not now.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

fn main() {
    let log = env::var_os("CARGO_FEATURE_DEFMT").is_some();
    // QEMU's board has 4 MiB of each; the image is limited to the memory of a small part.
    let tls = env::var_os("CARGO_FEATURE_TLS").is_some();
    let (flash_kib, ram_kib, stack_kib) = match (tls, log) {
        (true, true) => (224, 56, 20),
        (true, false) => (192, 48, 20),
        (false, true) => (96, 24, 6),
        (false, false) => (64, 16, 5),
    };
    // The stack lies below the data: an overflow causes a fault instead of overwriting data.
    let memory = format!(
        "MEMORY
{{
  FLASH : ORIGIN = 0x00000000, LENGTH = {flash_kib}K
  RAM : ORIGIN = 0x20000000 + {stack_kib}K, LENGTH = {ram_kib}K - {stack_kib}K
}}
_stack_start = 0x20000000 + {stack_kib}K;
_stack_end = 0x20000000;
"
    );
    let out = env::var_os("OUT_DIR").map(PathBuf::from);
    let out = out.expect("cargo sets OUT_DIR");
    fs::write(out.join("memory.x"), memory).expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=build.rs");
    if tls {
        write_credentials(&out);
    }

    let mut arguments = vec!["--nmagic", "-Tlink.x"];
    if log {
        arguments.extend(["-Tdefmt.x", "-Tbuild-id.x", "--build-id=sha1"]);
    }
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// Writes `tls.rs`: the credentials of the device, and the time of the build as a lower bound of every later time.
fn write_credentials(out: &Path) {
    for name in [DEVICE, SERVER, EPOCH] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let device = env::var_os(DEVICE).map_or_else(|| "certs/device.rs".into(), PathBuf::from);
    println!("cargo:rerun-if-changed={}", device.display());
    let device = fs::canonicalize(&device).unwrap_or_else(|error| {
        panic!("{}: {error}; set {DEVICE} to the file", device.display());
    });
    let Ok(server) = env::var(SERVER) else {
        panic!("set {SERVER} to a name in the certificate of the server");
    };
    let built_s = match env::var(EPOCH) {
        Ok(text) => text.parse().unwrap_or_else(|error| {
            panic!("{EPOCH} is `{text}`, not a number of seconds: {error}");
        }),
        Err(_) => SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("the clock is after 1970")
            .as_secs(),
    };
    let text = format!(
        "include!({device:?});\npub const SERVER_NAME: &str = {server:?};\npub const BUILT_S: u64 = {built_s};\n"
    );
    fs::write(out.join("tls.rs"), text).expect("OUT_DIR is writable");
}
