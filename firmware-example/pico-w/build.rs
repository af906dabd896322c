//! Passes the memory layout and the linker scripts to the linker, and the firmware of the radio to the program. Serves
//! `pico-2-w`, too.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The firmware of the radio, its regulatory data, and its settings on this board.
const RADIO: [&str; 3] = ["43439A0.bin", "43439A0_clm.bin", "nvram_rp2040.bin"];

fn main() {
    println!("cargo:rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    if env!("CARGO_PKG_NAME") == "pico-w" {
        // Places the second stage of the boot loader.
        println!("cargo:rustc-link-arg-bins=-Tlink-rp.x");
    }
    check_server();
    radio();
}

/// Refuses an address of the daemon that the program could not use.
fn check_server() {
    println!("cargo:rerun-if-env-changed=SERVER");
    let server = env::var("SERVER").expect("set SERVER to ADDRESS:PORT of the daemon");
    if let Err(error) = server.parse::<SocketAddrV4>() {
        panic!("SERVER={server}: {error}: write ADDRESS:PORT, such as 192.168.1.2:1060");
    }
}

/// Copies the firmware of the radio from the folder `CYW43_FIRMWARE`. With `none`, the image is only good for linking.
fn radio() {
    println!("cargo:rerun-if-env-changed=CYW43_FIRMWARE");
    let from = env::var("CYW43_FIRMWARE").expect(
        "set CYW43_FIRMWARE to the folder with the firmware of the radio; firmware-example/boards.md says how to get it",
    );
    let to = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    for name in RADIO {
        let bytes = if from == "none" {
            Vec::new()
        } else {
            let path = Path::new(&from).join(name);
            println!("cargo:rerun-if-changed={}", path.display());
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        fs::write(to.join(name), bytes).expect("the output folder can be written to");
    }
}
