//! The packets whose cost is measured, each ready to be answered.

use std::cell::RefCell;
use std::path::Path;

use godwit_engine::answer::{Answerer, Client, Settings};

use crate::answer::{NOW, choose, client, snapshot};

const OUT_OCTETS: usize = 65_535;

/// A packet of the corpus.
pub struct Packet {
    name: String,
    octets: Vec<u8>,
    settings: Settings,
    client: Client,
    /// What a worker has for all of its life.
    worker: RefCell<(Answerer, Vec<u8>)>,
}

impl Packet {
    /// Where in the corpus it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The packet as it comes.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Answers it; how many octets.
    #[must_use]
    pub fn answer(&self) -> usize {
        let (answerer, out) = &mut *self.worker.borrow_mut();
        answerer.answer(snapshot(), &self.settings, &self.client, NOW, &self.octets, out).len
    }
}

/// Those of the targets on the query path, answered once already.
///
/// # Panics
/// When the corpus cannot be read: it is committed beside this crate.
#[must_use]
pub fn packets() -> Vec<Packet> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut packets = Vec::new();
    for target in ["answer", "query"] {
        let entries = std::fs::read_dir(corpus.join(target)).expect("the corpus is there");
        let mut paths: Vec<_> =
            entries.map(|entry| entry.expect("the corpus can be listed").path()).collect();
        paths.sort();
        for path in paths {
            let input = std::fs::read(&path).expect("the corpus can be read");
            // In the corpus of `answer` an octet of settings stands in front.
            let (knobs, octets) = match (target, input.split_first()) {
                ("answer", Some((knobs, octets))) => (*knobs, octets.to_vec()),
                _ => (0, input),
            };
            let (transport, settings) = choose(knobs);
            let name = format!("{target}/{}", path.file_name().unwrap_or_default().to_string_lossy());
            let worker = RefCell::new((Answerer::new(), vec![0; OUT_OCTETS]));
            let packet = Packet { name, octets, settings, client: client(transport), worker };
            let _ = packet.answer();
            if !packet.octets.is_empty() {
                packets.push(packet);
            }
        }
    }
    packets
}
