//! A small server for the small zone that answers rightly, or goes wrong in a way that a test chose.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use godwit_loadtest::data::record::{Record, name_wire};
use godwit_loadtest::data::truth::Expected;
use godwit_loadtest::data::{Source, Workload};
use godwit_loadtest::load::queries::Queries;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// In every hundredth answer the last octet, which is RDATA, has a bit flipped.
    Flip,
    /// Every hundredth query gets no answer.
    Drop,
}

/// Ends when dropped.
pub(crate) struct Responder {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    pub(crate) fn start(source: Source, fault: Fault) -> Responder {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let answers = answers(source);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            let mut count = 0_u64;
            while !stopping.load(Ordering::Relaxed) {
                let Ok((len, client)) = socket.recv_from(&mut buffer) else { continue };
                let Some(answer) = answers.get(&buffer[12..len]) else { continue };
                let mut answer = answer.clone();
                answer[..2].copy_from_slice(&buffer[..2]);
                count += 1;
                match fault {
                    Fault::Drop if count.is_multiple_of(100) => continue,
                    Fault::Flip if count.is_multiple_of(100) => *answer.last_mut().unwrap() ^= 1,
                    Fault::None | Fault::Drop | Fault::Flip => {}
                }
                let _ = socket.send_to(&answer, client);
            }
        });
        Responder { address, stop, thread: Some(thread) }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Answers by question section.
fn answers(source: Source) -> HashMap<Vec<u8>, Vec<u8>> {
    let queries = Queries::of(&source, Workload::Small);
    (0..queries.len())
        .map(|index| {
            let expected = source.question(Workload::Small, index).expected;
            (queries.question(index).to_vec(), compose(queries.message(index), &expected))
        })
        .collect()
}

/// The expected answer to a query without EDNS, uncompressed, without what may be left out. A positive answer ends with
/// the last record of its answer section.
pub(crate) fn compose(query: &[u8], expected: &Expected) -> Vec<u8> {
    let authority = if expected.authority_optional { &[][..] } else { &expected.authority };
    let mut message = query.to_vec();
    message[2] |= 0x80 | (u8::from(expected.authoritative) << 2);
    message[3] = expected.rcode;
    for (place, section) in [(6, &expected.answer[..]), (8, authority), (10, &expected.glue)] {
        message[place..place + 2].copy_from_slice(&u16::try_from(section.len()).unwrap().to_be_bytes());
        for record in section {
            push(&mut message, record);
        }
    }
    message
}

pub(crate) fn push(message: &mut Vec<u8>, record: &Record) {
    let rdata = record.data.wire();
    message.extend(name_wire(&record.owner));
    message.extend(record.data.rtype().to_be_bytes());
    message.extend(1_u16.to_be_bytes());
    message.extend(record.ttl.to_be_bytes());
    message.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
    message.extend(rdata);
}
