//! The commands for people, one file each. All but `zone check` and `token create` speak to the API.

pub(crate) mod export;
pub(crate) mod import;
mod large_zone;
mod origin;
mod progress;
pub(crate) mod record;
pub(crate) mod token;
pub(crate) mod zone;

/// A name as people type it on a command line: absolute, with or without its final dot.
fn absolute(text: &str) -> String {
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}
