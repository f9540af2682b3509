//! A workload's queries as messages, packed one after another and asked in a circle.

use crate::data::record::{name_wire, rtype};
use crate::data::{Source, Workload};

/// Octets of the DNS header.
pub const HEADER: usize = 12;

/// An OPT record: UDP payload size 1232, version 0, no flags, no options (RFC 6891 §6.1.2).
const OPT: [u8; 11] = [0, 0, rtype::OPT as u8, 0x04, 0xD0, 0, 0, 0, 0, 0, 0];

/// Messages with ID 0, which the sender fills in.
#[derive(Clone, Debug, Default)]
pub struct Queries {
    octets: Vec<u8>,
    /// Where message `i` starts; one more than there are messages.
    starts: Vec<u32>,
    edns: bool,
}

impl Queries {
    /// All questions of a workload. RD is clear.
    #[must_use]
    pub fn of(source: &Source, workload: Workload) -> Self {
        let mut queries = Queries { edns: workload.edns(), starts: vec![0], octets: Vec::new() };
        for index in 0..source.question_count(workload) {
            let question = source.question(workload, index);
            queries.push(&question.name, question.qtype);
        }
        queries
    }

    /// Messages for these questions.
    #[must_use]
    pub fn new<'a>(edns: bool, questions: impl Iterator<Item = (&'a str, u16)>) -> Self {
        let mut queries = Queries { edns, starts: vec![0], octets: Vec::new() };
        for (name, qtype) in questions {
            queries.push(name, qtype);
        }
        queries
    }

    fn push(&mut self, name: &str, qtype: u16) {
        let arcount = u8::from(self.edns);
        self.octets.extend([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, arcount]);
        self.octets.extend(name_wire(name));
        self.octets.extend(qtype.to_be_bytes());
        self.octets.extend(1_u16.to_be_bytes());
        if self.edns {
            self.octets.extend(OPT);
        }
        self.starts.push(u32::try_from(self.octets.len()).expect("a workload's queries stay below 4 GiB"));
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.starts.len() - 1).expect("made from 32-bit indexes")
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.len() < 2
    }

    /// Message `index`.
    #[must_use]
    pub fn message(&self, index: u32) -> &[u8] {
        let index = index as usize;
        &self.octets[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// The question section of message `index`.
    #[must_use]
    pub fn question(&self, index: u32) -> &[u8] {
        let message = self.message(index);
        let end = if self.edns { message.len() - OPT.len() } else { message.len() };
        &message[HEADER..end]
    }

    /// Whether a message is an answer that carries this question: QR set, one question, octet for octet the same.
    #[must_use]
    pub fn is_answer(&self, index: u32, answer: &[u8]) -> bool {
        let question = self.question(index);
        answer.len() >= HEADER + question.len()
            && answer[2] & 0x80 != 0
            && answer[4..6] == [0, 1]
            && &answer[HEADER..HEADER + question.len()] == question
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_question() {
        let questions = [("a.test.", rtype::A), ("bb.test.", rtype::MX)];
        let queries = Queries::new(true, questions.into_iter());
        assert_eq!(queries.len(), 2);
        assert_eq!(queries.question(1), b"\x02bb\x04test\x00\x00\x0f\x00\x01");
        let message = crate::message::read(queries.message(1)).unwrap();
        assert_eq!(message.additional[0].rtype, rtype::OPT);

        let mut answer = queries.message(1).to_vec();
        assert!(!queries.is_answer(1, &answer), "QR is clear");
        answer[2] |= 0x80;
        assert!(queries.is_answer(1, &answer));
        assert!(!queries.is_answer(0, &answer), "another question");
    }
}
