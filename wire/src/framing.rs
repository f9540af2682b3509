//! Messages on a TCP connection: two octets of length in front of each (RFC 1035 §4.2.2), however they were cut into
//! segments. Leaves out the connection, and how long anything may take.

use crate::message::HEADER_OCTETS;

/// Octets of the length in front of each message.
pub const PREFIX_OCTETS: usize = 2;

/// The first message, if it is whole, and what follows it.
#[must_use]
pub fn split(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = octets.split_first_chunk::<PREFIX_OCTETS>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*prefix)))
}

/// Whether the first message is whole.
#[must_use]
pub fn whole_message(octets: &[u8]) -> bool {
    split(octets).is_some()
}

/// Whether no octets to come can make a DNS message of this: its length is too short for a header.
#[must_use]
pub fn impossible(octets: &[u8]) -> bool {
    octets
        .first_chunk::<PREFIX_OCTETS>()
        .is_some_and(|prefix| usize::from(u16::from_be_bytes(*prefix)) < HEADER_OCTETS)
}

/// The whole messages at the start of some octets, one after the other. Ends before the first that is partial or
/// [`impossible`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Those at the start of `octets`.
    #[must_use]
    pub fn new(octets: &'a [u8]) -> Self {
        Messages { rest: octets }
    }

    /// What was not taken yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (message, after) = split(self.rest).filter(|(message, _)| message.len() >= HEADER_OCTETS)?;
        self.rest = after;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_by_their_lengths() {
        assert_eq!(split(&[0, 2, 1, 2, 3]), Some((&[1, 2][..], &[3][..])));
        assert_eq!(split(&[0, 0]), Some((&[][..], &[][..])));
        for partial in [&[][..], &[0], &[0, 1], &[0xFF, 0xFF, 1]] {
            assert_eq!(split(partial), None);
            assert!(!whole_message(partial));
        }
        assert!(impossible(&[0, 11]));
        assert!(!impossible(&[0, 12]));
        assert!(!impossible(&[0]));
    }

    #[test]
    fn whole_messages_are_taken_up_to_what_is_partial_or_impossible() {
        let twelve = [&[0, 12][..], &[7; 12]].concat();
        for end in [&[][..], &[0], &[0, 12, 7], &[0, 11], &[0, 0, 0, 12]] {
            let octets = [&twelve[..], &twelve, end].concat();
            let mut messages = Messages::new(&octets);
            assert_eq!(messages.by_ref().collect::<Vec<_>>(), [[7; 12], [7; 12]]);
            assert_eq!(messages.rest(), end);
        }
    }
}
