//! The kernel's own counts of datagrams, to hold against what the generator works out.

use std::fs;

use anyhow::{Context, Result};

/// Datagrams of this network namespace so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Datagrams {
    /// Taken from a socket by a program.
    pub received: u64,
    /// Lost because a socket's buffer was full.
    pub overflowed: u64,
}

impl Datagrams {
    /// As they are now.
    ///
    /// # Errors
    /// /proc/net/snmp is not as Linux writes it.
    pub fn now() -> Result<Self> {
        let text =
            fs::read_to_string("/proc/thread-self/net/snmp").context("reading /proc/thread-self/net/snmp")?;
        parse(&text).context("no UDP counts in /proc/thread-self/net/snmp")
    }
}

/// A line of names, then a line of values, both beginning with `Udp:`.
fn parse(text: &str) -> Option<Datagrams> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted| {
        let place = names.split(' ').position(|name| name == wanted)?;
        values.split(' ').nth(place)?.parse().ok()
    };
    Some(Datagrams { received: value("InDatagrams")?, overflowed: value("RcvbufErrors")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_name() {
        let text = "Ip: A B\nIp: 1 2\nUdp: InDatagrams NoPorts RcvbufErrors\nUdp: 7 8 9\n";
        let found = parse(text).unwrap();
        assert_eq!((found.received, found.overflowed), (7, 9));
        assert!(Datagrams::now().is_ok());
    }
}
