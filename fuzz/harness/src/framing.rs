//! Messages on a TCP connection: one octet that says how the stream is cut into segments, then the stream. However it is cut,
//! the same messages come out of it, each as long as its length says, and nothing is lost.

use godwit_wire::framing::{Messages, impossible, split, whole_message};

use crate::{Target, holding, names};

/// Checks the properties.
pub fn run(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let (whole, rest) = at_once(stream);
    // What is left begins with something partial or impossible, never with a message that could have been taken.
    assert!(impossible(rest) || !whole_message(rest));
    assert_eq!(impossible(rest), rest.len() >= 2 && rest[0] == 0 && rest[1] < 12);
    let taken: usize = whole.iter().map(|message| 2 + message.len()).sum();
    assert_eq!(taken + rest.len(), stream.len(), "octets were lost, or came twice");
    let mut at = 0;
    for message in &whole {
        assert_eq!(stream[at..at + 2], (message.len() as u16).to_be_bytes(), "another length than it says");
        assert_eq!(&stream[at + 2..at + 2 + message.len()], *message);
        assert!(message.len() >= 12);
        at += 2 + message.len();
    }
    let (pieces, rest_of_pieces, ended) = in_segments(stream, cut);
    assert_eq!(pieces, whole, "another message when it comes in segments");
    if !ended {
        assert_eq!(rest_of_pieces, rest);
    }
}

fn at_once(stream: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut messages = Messages::new(stream);
    let whole = messages.by_ref().collect();
    (whole, messages.rest())
}

/// As a connection does it: what is partial is kept and grows until its message is whole; what is impossible ends it.
/// `cut`: 0 one octet a time, else segments of pseudo-random lengths that it chooses.
fn in_segments(stream: &[u8], cut: u8) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
    let (mut kept, mut whole, mut at) = (Vec::new(), Vec::new(), 0);
    let mut state = u32::from(cut);
    while at < stream.len() {
        state = state.wrapping_mul(1_664_525).wrapping_add(u32::from(cut));
        let len = if cut == 0 { 1 } else { 1 + (state >> 20) as usize % (4 * usize::from(cut)) };
        let end = stream.len().min(at + len);
        kept.extend_from_slice(&stream[at..end]);
        at = end;
        if !whole_message(&kept) && !impossible(&kept) {
            continue;
        }
        let mut messages = Messages::new(&kept);
        whole.extend(messages.by_ref().map(<[u8]>::to_vec));
        let rest = messages.rest().to_vec();
        if impossible(&rest) {
            return (whole, rest, true);
        }
        assert!(split(&rest).is_none());
        kept = rest;
    }
    (whole, kept, false)
}

pub(crate) fn target() -> Target {
    Target {
        name: "framing",
        run,
        classes: names(&["one", "several", "partial", "half a length", "impossible", "large"]),
        classify: |data| {
            let Some((_, stream)) = data.split_first() else { return Vec::new() };
            let (whole, rest) = at_once(stream);
            holding(&[
                ("one", whole.len() == 1),
                ("several", whole.len() > 1),
                ("partial", rest.len() > 1 && !impossible(rest)),
                ("half a length", rest.len() == 1),
                ("impossible", impossible(rest)),
                ("large", whole.iter().any(|message| message.len() > 512)),
            ])
        },
        seeds: || {
            let message = |octets: usize| [&(octets as u16).to_be_bytes()[..], &vec![7; octets]].concat();
            let seed = |cut: u8, parts: &[&[u8]]| [&[cut], &parts.concat()[..]].concat();
            let (short, long) = (message(29), message(600));
            vec![
                ("one".to_owned(), seed(0, &[&short])),
                ("several".to_owned(), seed(7, &[&short, &message(12), &short])),
                ("partial".to_owned(), seed(1, &[&short, &short[..9]])),
                ("half-a-length".to_owned(), seed(3, &[&short, &[0]])),
                ("impossible".to_owned(), seed(200, &[&short, &[0, 11], &short])),
                ("large".to_owned(), seed(40, &[&long, &short])),
            ]
        },
    }
}
