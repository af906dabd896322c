//! Passes the memory layout and the linker scripts to the linker.

use std::env;
use std::net::SocketAddrV4;

fn main() {
    println!("cargo:rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=memory.x");
    for argument in ["--nmagic", "-Tlink.x", "-Tlink-rp.x"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    check_server();
}

/// Refuses an address of the daemon that the program could not use.
fn check_server() {
    println!("cargo:rerun-if-env-changed=SERVER");
    let server = env::var("SERVER").expect("set SERVER to ADDRESS:PORT of the daemon");
    if let Err(error) = server.parse::<SocketAddrV4>() {
        panic!("SERVER={server}: {error}: write ADDRESS:PORT, such as 192.168.1.2:1060");
    }
}
