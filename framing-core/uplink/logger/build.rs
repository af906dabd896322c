//! Adds the folder of `build-id.x` to the linker's search path, for boards that use it.

fn main() {
    println!("cargo:rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=build-id.x");
}
