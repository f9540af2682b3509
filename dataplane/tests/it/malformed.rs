//! What cannot be understood, through real sockets: the exact reaction to each class.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::process::{Process, ZONE, ask, zone_folder};

const NOERROR: u8 = 0;
const FORMERR: u8 = 1;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;

/// `| ID | flags | QD | AN | NS | AR |` and a body.
fn message(flags: u16, counts: [u16; 4], body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xAB, 0xCD];
    octets.extend_from_slice(&flags.to_be_bytes());
    for count in counts {
        octets.extend_from_slice(&count.to_be_bytes());
    }
    octets.extend_from_slice(body);
    octets
}

const QUESTION: &[u8] = b"\x03www\x07example\x03org\x00\x00\x01\x00\x01";
const OPT: &[u8] = b"\x00\x00\x29\x04\xD0\x00\x00\x00\x00\x00\x00";

fn over_tcp(address: SocketAddr, message: &[u8]) -> Option<Vec<u8>> {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut octets = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    octets.extend_from_slice(message);
    client.write_all(&octets).unwrap();
    let mut length = [0; 2];
    client.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    client.read_exact(&mut answer).unwrap();
    Some(answer)
}

#[test]
fn p7_every_class_of_malformed_message_gets_its_reaction() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let zones = folder.path().to_str().unwrap();
    let process = Process::start(&["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--zones", zones]);
    let with = |parts: &[&[u8]]| parts.concat();
    // None: silence. Else the RCODE; 16 and above need an OPT in the answer, and stand in it.
    let classes: Vec<(&str, Vec<u8>, Option<u8>)> = vec![
        ("sound", message(0x0100, [1, 0, 0, 0], QUESTION), Some(NOERROR)),
        ("sound, with EDNS", message(0x0100, [1, 0, 0, 1], &with(&[QUESTION, OPT])), Some(NOERROR)),
        ("less than a header", vec![0xAB; 11], None),
        ("nothing at all", Vec::new(), None),
        ("a response", message(0x8100, [1, 0, 0, 0], QUESTION), None),
        ("no question", message(0x0100, [0, 0, 0, 0], b""), Some(FORMERR)),
        ("two questions", message(0x0100, [2, 0, 0, 0], &with(&[QUESTION, QUESTION])), Some(FORMERR)),
        (
            "a label of 64 octets",
            message(0x0100, [1, 0, 0, 0], &with(&[&[64], &[b'a'; 64], b"\x00\x00\x01\x00\x01"])),
            Some(FORMERR),
        ),
        ("a name that runs off the end", message(0x0100, [1, 0, 0, 0], b"\x3Fwww"), Some(FORMERR)),
        ("a pointer to itself", message(0x0100, [1, 0, 0, 0], b"\xC0\x0C\x00\x01\x00\x01"), Some(FORMERR)),
        ("no type and class", message(0x0100, [1, 0, 0, 0], b"\x03www\x00"), Some(FORMERR)),
        ("octets after the end", message(0x0100, [1, 0, 0, 0], &with(&[QUESTION, b"junk"])), Some(FORMERR)),
        ("two OPTs", message(0x0100, [1, 0, 0, 2], &with(&[QUESTION, OPT, OPT])), Some(FORMERR)),
        (
            "EDNS of version 1",
            message(
                0x0100,
                [1, 0, 0, 1],
                &with(&[QUESTION, b"\x00\x00\x29\x04\xD0\x00\x01\x00\x00\x00\x00"]),
            ),
            Some(16),
        ),
        ("an unknown OPCODE", message(0x7900, [1, 0, 0, 0], QUESTION), Some(NOTIMP)),
        (
            "another class",
            message(0x0100, [1, 0, 0, 0], b"\x03www\x07example\x03org\x00\x00\x01\x00\x04"),
            Some(REFUSED),
        ),
        ("UPDATE", message(0x2800, [1, 0, 0, 0], b"\x07example\x03org\x00\x00\x06\x00\x01"), Some(REFUSED)),
        ("NOTIFY", message(0x2400, [1, 0, 0, 0], b"\x07example\x03org\x00\x00\x06\x00\x01"), Some(REFUSED)),
        (
            "AXFR from a stranger",
            message(0x0000, [1, 0, 0, 0], b"\x07example\x03org\x00\x00\xFC\x00\x01"),
            Some(REFUSED),
        ),
    ];
    for (class, octets, expected) in &classes {
        let mut answers = vec![("UDP", ask(process.address(), octets))];
        // Over TCP a message without a header ends the connection, which looks like silence.
        answers.push(("TCP", over_tcp(process.address(), octets)));
        for (transport, answer) in answers {
            let rcode = answer.as_ref().map(|answer| {
                assert_eq!(answer[..2], octets[..2], "{class} over {transport}");
                assert_eq!(answer[2] & 0x80, 0x80, "{class} over {transport}");
                let extended =
                    if answer.ends_with(&[0, 0]) && answer[11] == 1 { answer[answer.len() - 6] } else { 0 };
                extended << 4 | answer[3] & 0x0F
            });
            assert_eq!(rcode, *expected, "{class} over {transport}: {answer:?}");
        }
    }
    // It is alive and well, and has counted.
    assert_eq!(process.dig(&["+short", "www.example.org"]), "192.0.2.80\n");
    assert!(process.metric("godwit_dataplane_dropped_total{reason=\"short\"}") >= 2.0);
    assert!(process.metric("godwit_dataplane_dropped_total{reason=\"response\"}") >= 2.0);
    assert!((process.metric("godwit_dataplane_panics_total")).abs() < 0.1);
}
