//! Builds anew when a migration changes: they become part of the program.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
