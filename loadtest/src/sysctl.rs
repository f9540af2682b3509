//! The default size of socket buffers, raised while servers run that do not set their own, so that drops in a buffer of
//! 208 KiB are not measured instead of speed; set back at the end.

use std::fs;

/// What sockets get that do not ask.
const SETTINGS: [&str; 2] = ["/proc/sys/net/core/rmem_default", "/proc/sys/net/core/wmem_default"];
/// Room for thousands of small datagrams, each of which is charged some 800 octets.
const RAISED: u64 = 4 * 1024 * 1024;

/// Holds what the settings were; dropping it sets them back.
#[derive(Debug)]
pub struct Raised(Vec<(&'static str, String)>);

impl Raised {
    /// Raises the settings as far as the user may; says on stderr when not.
    #[must_use]
    pub fn raise() -> Self {
        let mut before = Vec::new();
        for setting in SETTINGS {
            let found = fs::read_to_string(setting).unwrap_or_default();
            if found.trim().parse::<u64>().is_ok_and(|octets| octets >= RAISED) {
                continue;
            }
            match fs::write(setting, RAISED.to_string()) {
                Ok(()) => before.push((setting, found)),
                Err(error) => eprintln!("{setting} stays at {}: {error}; expect loss", found.trim()),
            }
        }
        Raised(before)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        for (setting, value) in &self.0 {
            if let Err(error) = fs::write(setting, value) {
                eprintln!("{setting} could not be set back to {}: {error}", value.trim());
            }
        }
    }
}
