//! Lets the linker find `build-id.x`, for boards that ask for it.

fn main() {
    println!("cargo:rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=build-id.x");
}
