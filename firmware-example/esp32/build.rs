//! Passes the linker script of `esp-hal` to the linker.

use std::env;
use std::net::SocketAddrV4;

fn main() {
    println!("cargo:rustc-link-arg-bins=-Tlinkall.x");
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
