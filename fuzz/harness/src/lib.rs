//! What the fuzz targets do with their input: one file per target, each with the properties that must hold for any octets,
//! the classes of valid messages, and a seed of each class. How inputs are found and run is not here.
//!
//! A target panics when a property does not hold; that is how a fuzzer learns of it.

pub mod announcement;
pub mod answer;
pub mod apply;
pub mod batch;
pub mod change_set;
pub mod cookie;
pub mod cost;
pub mod framing;
pub mod head;
pub mod index;
pub mod local_snapshot;
pub mod presentation;
pub mod query;
pub mod rdata;
pub mod volume;
pub mod zone_blob;
pub mod zonefile;

mod message;
mod samples;
mod zones;

/// Ends a program that cannot go on, and says why.
pub fn give_up(error: &str, code: i32) -> ! {
    eprintln!("{error}");
    std::process::exit(code)
}

/// Prints packets, one line of hexadecimal digits each.
pub fn print_packets<'p>(packets: impl IntoIterator<Item = &'p [u8]>) {
    for packet in packets {
        let hexadecimal: String = packet.iter().map(|octet| format!("{octet:02x}")).collect();
        eprintln!("  {hexadecimal}");
    }
}

/// One fuzz target.
pub struct Target {
    /// The name of its file in `fuzz_targets/` and of its folder in `corpus/`.
    pub name: &'static str,
    /// Checks every property on one input.
    pub run: fn(&[u8]),
    /// The kinds of valid input that its corpus must have.
    pub classes: Vec<String>,
    /// The classes that an input belongs to; none for one that is not valid.
    pub classify: fn(&[u8]) -> Vec<String>,
    /// A valid input of each class, with the name of the file that it goes to.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// All targets.
#[must_use]
pub fn targets() -> Vec<Target> {
    vec![
        announcement::target(),
        answer::target(),
        apply::target(),
        batch::target(),
        change_set::target(),
        cookie::target(),
        framing::target(),
        head::target(),
        index::target(),
        local_snapshot::target(),
        presentation::target(),
        query::target(),
        rdata::target(),
        zone_blob::target(),
        zonefile::target(),
    ]
}

fn names(classes: &[&str]) -> Vec<String> {
    classes.iter().map(|&class| class.to_owned()).collect()
}

/// The classes whose condition holds.
fn holding(conditions: &[(&str, bool)]) -> Vec<String> {
    conditions.iter().filter(|(_, holds)| *holds).map(|(class, _)| (*class).to_owned()).collect()
}
