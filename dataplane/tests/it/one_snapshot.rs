//! P2: what is answered together is answered from one snapshot, whatever is swapped in meanwhile.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use godwit_dataplane::serve::engine::{Answering, Engine};
use godwit_dataplane::serve::respond::{Batch, Client, Outcome, Respond, Slot, Transport};
use godwit_engine::answer::Settings;
use godwit_engine::snapshot::Snapshot;
use godwit_engine::snapshot::store::Store;

use super::client::query;
use super::snapshots::{change_set, options, update, whole};

/// More than are looked up at once.
const COUNT: u8 = 100;
const BEFORE: [u8; 4] = [192, 0, 2, 1];
const AFTER: [u8; 4] = [192, 0, 2, 2];

/// Queries for addresses in zones of their own. When the first is answered, the next snapshot is swapped in.
struct Messages<'a> {
    store: &'a Arc<Store<Snapshot>>,
    next: Option<Snapshot>,
    queries: Vec<Vec<u8>>,
    outs: Vec<Vec<u8>>,
    lens: Vec<usize>,
}

impl Batch for Messages<'_> {
    fn len(&self) -> usize {
        self.queries.len()
    }

    fn slot(&mut self, i: usize) -> Slot<'_> {
        let client = Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), transport: Transport::Udp };
        Slot { client, packet: &self.queries[i], out: &mut self.outs[i] }
    }

    fn done(&mut self, i: usize, outcome: Outcome) {
        self.lens[i] = outcome.len;
        if let Some(next) = self.next.take() {
            self.store.swap(next);
        }
    }
}

impl Messages<'_> {
    /// The addresses answered: the last octets of each answer.
    fn addresses(&self) -> Vec<&[u8]> {
        self.outs.iter().zip(&self.lens).map(|(out, len)| &out[len - 4..*len]).collect()
    }
}

#[test]
fn p2_a_batch_is_answered_from_one_snapshot_though_the_next_is_swapped_in_meanwhile() {
    let zone = |number: u8| format!("z{number}.test");
    let all = (0..COUNT).map(|number| whole(&zone(number), 1, BEFORE)).collect();
    let store = Store::new(Snapshot::empty(&options()).apply(&change_set(all)).unwrap());
    let answering = Store::new(Answering::new(Settings::default()));
    let mut engine = Engine::new(&store, &answering, true);
    let changes = (0..COUNT).map(|number| update(&zone(number), 1, AFTER)).collect();
    let count = usize::from(COUNT);
    let mut messages = Messages {
        store: &store,
        next: Some(store.load().apply(&change_set(changes)).unwrap()),
        queries: (0..COUNT).map(|number| query(&format!("www.{}", zone(number)), 1, None)).collect(),
        outs: vec![vec![0; 512]; count],
        lens: vec![0; count],
    };
    for expected in [BEFORE, AFTER] {
        engine.respond_batch(0, &mut messages);
        assert_eq!(messages.addresses(), vec![&expected[..]; count]);
    }
}
