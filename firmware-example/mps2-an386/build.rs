//! Writes `memory.x`, and passes the linker scripts to the linker.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let log = env::var_os("CARGO_FEATURE_DEFMT").is_some();
    // QEMU's board has 4 MiB of each; the image is limited to the memory of a small part.
    let (flash_kib, ram_kib, stack_kib) = if log { (96, 24, 6) } else { (64, 16, 5) };
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

    let mut arguments = vec!["--nmagic", "-Tlink.x"];
    if log {
        arguments.extend(["-Tdefmt.x", "-Tbuild-id.x", "--build-id=sha1"]);
    }
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
