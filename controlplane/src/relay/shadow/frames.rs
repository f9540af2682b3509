//! What is said between the control plane and the child: frames of a length, a kind and octets.
//!
//! ```text
//! length (4 octets, big-endian), kind (1), octets
//! to the child:   Zone (`wire::feed::ZoneBlob`), ChangeSet (`wire::feed::ChangeSet`), Forget (apex in wire format), Judge
//! from the child: Ready, once; for each Judge one Answers: for each Zone and ChangeSet since the last, in order, a length (2
//!                 octets) and why it was refused, empty where it was not
//! ```

use std::io::{self, Read};

use godwit_wire::name::Name;

/// The most octets of a frame.
pub(super) const MOST: usize = 256 << 20;
/// The most octets of why something was refused.
const MOST_WHY: usize = 512;

/// See the module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Ready,
    Zone,
    ChangeSet,
    Forget,
    Judge,
    Answers,
}

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::Ready, Kind::Zone, Kind::ChangeSet, Kind::Forget, Kind::Judge, Kind::Answers];

    fn octet(self) -> u8 {
        Kind::ALL
            .iter()
            .position(|kind| *kind == self)
            .and_then(|at| u8::try_from(at).ok())
            .unwrap_or(u8::MAX)
    }

    fn of(octet: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(octet)).copied()
    }
}

/// What an answer is about.
#[derive(Debug)]
pub(super) enum Asked {
    Zone(Name),
    /// Its place among those that are judged.
    ChangeSet(usize),
}

/// What is sent to the child at once; it answers when all of it was read.
#[derive(Debug, Default)]
pub(super) struct Message {
    sent: Vec<u8>,
    pub(super) asked: Vec<Asked>,
}

impl Message {
    pub(super) fn octets(&self) -> u64 {
        self.sent.len() as u64
    }

    pub(super) fn forget(&mut self, zone: &Name) {
        put(&mut self.sent, Kind::Forget, zone.as_wire());
    }

    pub(super) fn zone(&mut self, zone: &Name, blob: &[u8]) {
        put(&mut self.sent, Kind::Zone, blob);
        self.asked.push(Asked::Zone(zone.clone()));
    }

    pub(super) fn change_set(&mut self, place: usize, payload: &[u8]) {
        put(&mut self.sent, Kind::ChangeSet, payload);
        self.asked.push(Asked::ChangeSet(place));
    }

    /// All of it, to be written.
    pub(super) fn whole(&self) -> Vec<u8> {
        let mut whole = self.sent.clone();
        put(&mut whole, Kind::Judge, &[]);
        whole
    }
}

/// Appends a frame.
pub(super) fn put(out: &mut Vec<u8>, kind: Kind, octets: &[u8]) {
    // What is too long is refused by who reads it.
    out.extend_from_slice(&u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.push(kind.octet());
    out.extend_from_slice(octets);
}

/// Kind and length of a frame that begins so.
pub(super) fn head(octets: [u8; 5]) -> io::Result<(Kind, usize)> {
    let [a, b, c, d, kind] = octets;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let kind = Kind::of(kind).filter(|_| length <= MOST);
    kind.map(|kind| (kind, length)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The next frame; `None` at the end.
pub(super) fn read(input: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut begin = [0; 5];
    if let Err(error) = input.read_exact(&mut begin) {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let (kind, length) = head(begin)?;
    let mut octets = vec![0; length];
    input.read_exact(&mut octets)?;
    Ok(Some((kind, octets)))
}

/// Appends an answer: why it was refused, if it was.
pub(super) fn put_answer(out: &mut Vec<u8>, refused: Option<&str>) {
    let why = refused.unwrap_or_default().as_bytes();
    let why = why.get(..MOST_WHY).unwrap_or(why);
    out.extend_from_slice(&u16::try_from(why.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(why);
}

/// So many answers; `None` where they are none.
pub(super) fn answers(mut octets: &[u8], count: usize) -> Option<Vec<String>> {
    let mut answers = Vec::with_capacity(count);
    while let Some((length, rest)) = octets.split_first_chunk() {
        let (why, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        answers.push(String::from_utf8_lossy(why).into_owned());
        octets = rest;
    }
    (octets.is_empty() && answers.len() == count).then_some(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let zone: Name = "example.com.".parse().unwrap();
        let mut message = Message::default();
        message.forget(&zone);
        message.zone(&zone, b"blob");
        message.change_set(0, b"payload");
        let whole = message.whole();
        let mut rest = whole.as_slice();
        let mut read_next = || read(&mut rest).unwrap();
        assert_eq!(read_next(), Some((Kind::Forget, zone.as_wire().to_vec())));
        assert_eq!(read_next(), Some((Kind::Zone, b"blob".to_vec())));
        assert_eq!(read_next(), Some((Kind::ChangeSet, b"payload".to_vec())));
        assert_eq!(read_next(), Some((Kind::Judge, Vec::new())));
        assert_eq!(read_next(), None);
        assert!(read(&mut &[0xff, 0xff, 0xff, 0xff, 0][..]).is_err(), "too long");
        assert!(read(&mut &[0, 0, 0, 0, 9][..]).is_err(), "no kind");
        let mut said = Vec::new();
        put_answer(&mut said, None);
        put_answer(&mut said, Some(&"x".repeat(1_000)));
        let read = answers(&said, 2).unwrap();
        assert_eq!((read[0].as_str(), read[1].len()), ("", MOST_WHY));
        assert!(answers(&said, 1).is_none() && answers(&said[..3], 2).is_none());
    }
}
