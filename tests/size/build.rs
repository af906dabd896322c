//! Passes the linker script to the linker.

fn main() {
    println!("cargo:rerun-if-changed=image.x");
    println!(
        "cargo:rustc-link-arg-bins=-T{}/image.x",
        env!("CARGO_MANIFEST_DIR")
    );
    println!("cargo:rustc-link-arg-bins=--emit-relocs");
}
