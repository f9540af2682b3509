//! Packets out of other packets: what a fuzzer does to octets, and what is worth doing to a DNS message.

use super::Random;

/// Octets that mean something in a message: ends, pointers, longest labels, the types and classes of OPT and TSIG.
const OCTETS: [u8; 16] = [0, 1, 2, 3, 4, 10, 12, 28, 41, 63, 64, 128, 0xC0, 250, 254, 255];
const WORDS: [u16; 16] = [0, 1, 2, 3, 5, 12, 41, 63, 250, 255, 512, 1232, 4096, 0xC00C, 0x8000, 0xFFFF];

/// Changes a packet once, somehow.
pub(super) fn once(random: &mut Random, packet: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    if packet.is_empty() {
        packet.push(random.next() as u8);
        return;
    }
    let at = random.below(packet.len());
    match random.below(10) {
        0 => packet[at] ^= 1 << random.below(8),
        1 => packet[at] = random.next() as u8,
        2 => packet[at] = *random.pick(&OCTETS),
        3 => word(packet, at, *random.pick(&WORDS)),
        4 => packet.truncate(at),
        5 => packet.insert(at, *random.pick(&OCTETS)),
        6 => {
            packet.remove(at);
        }
        7 => {
            // A record twice, or a label.
            let end = packet.len().min(at + 1 + random.below(48));
            packet.extend_from_within(at..end);
        }
        8 => {
            let other = random.pick(corpus);
            packet.truncate(at);
            packet.extend_from_slice(&other[at.min(other.len())..]);
        }
        // Flags, opcode and counts decide most.
        _ => {
            let header = random.below(12);
            if let Some(octet) = packet.get_mut(header) {
                *octet = *random.pick(&OCTETS);
            }
        }
    }
}

fn word(packet: &mut [u8], at: usize, word: u16) {
    for (place, octet) in packet[at..].iter_mut().zip(word.to_be_bytes()) {
        *place = octet;
    }
}
