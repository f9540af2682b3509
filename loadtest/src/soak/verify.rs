//! Looks up whether everything that was acknowledged is there: through the API, and through DNS. Writers pause meanwhile, so that
//! there is one truth to compare with.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::outages::Side;
use super::questions::{Questions, Verdict, changing_count};
use super::shared::Shared;
use super::writers::{self, Access};
use crate::message;

/// How often a question is asked before it counts as lost: floods go on meanwhile.
const TRIES: usize = 5;
/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// While it lives, nothing is written.
pub struct Paused<'a>(&'a Shared);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.writers_pause.store(false, Ordering::SeqCst);
    }
}

/// Waits until no writer is in the middle of something.
#[must_use]
pub fn pause_writers(shared: &Shared) -> Paused<'_> {
    shared.writers_pause.store(true, Ordering::SeqCst);
    // Each gives up when its response does not come in time.
    while shared.writers_busy.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    Paused(shared)
}

/// Everything that was acknowledged before is served now: the API said so while nobody wrote.
pub fn all_is_served(shared: &Shared) {
    let now = Instant::now();
    shared.histories(Side::Run).iter_mut().for_each(|history| history.all_served(now));
}

/// Compares all names that change with the ledger, by the API and by DNS. Writers must pause.
///
/// # Errors
/// The API or DNS does not answer.
pub fn everything(shared: &Shared, access: &Access) -> Result<()> {
    let states = writers::all_states(&mut access.connect()?)?;
    for (name, found) in states.into_iter().enumerate() {
        writers::settle(shared, name, found);
    }
    // What was in doubt and turned out to be carried out is served with the rest.
    all_is_served(shared);
    let questions = Questions::of_changing_names(Side::Run);
    let mut asker = Asker::connect(shared.dns[Side::Run as usize])?;
    for index in 0..changing_count() as u32 {
        let asked = Instant::now();
        let (query, answer) =
            asker.ask(questions.queries.message(index)).with_context(|| questions.show(index))?;
        let verdict = questions.judge(index, &query, &answer, (asked, Instant::now()), shared);
        let lost = matches!(verdict, Verdict::Wrong(_));
        shared.judged(Side::Run, verdict, &|| format!("{} (looked up)", questions.show(index)));
        let mut writes = shared.writes();
        writes.looked_up[1] += 1;
        writes.lost += u64::from(lost);
    }
    Ok(())
}

/// Asks one question at a time, again when there is no answer.
struct Asker {
    socket: UdpSocket,
    id: u16,
    buffer: Vec<u8>,
}

impl Asker {
    fn connect(server: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("opening a UDP socket")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Asker { socket, id: 0, buffer: vec![0; 4_096] })
    }

    /// The query as sent, and its answer.
    fn ask(&mut self, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
        for _ in 0..TRIES {
            self.id = self.id.wrapping_add(1);
            let mut query = message.to_vec();
            query[..2].copy_from_slice(&self.id.to_be_bytes());
            if self.socket.send(&query).is_err() {
                continue;
            }
            while let Ok(len) = self.socket.recv(&mut self.buffer) {
                if len >= 12 && self.buffer[..2] == query[..2] {
                    return Ok((query, self.buffer[..len].to_vec()));
                }
            }
        }
        anyhow::bail!("no answer to {TRIES} queries")
    }
}

/// Watches the zone file's first name.
pub struct Eye {
    asker: Asker,
    message: Vec<u8>,
}

impl Eye {
    /// A socket for the data plane.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn on_zone_file(shared: &Shared) -> Result<Self> {
        let questions = Questions::of_changing_names(Side::Dataplane);
        let asker = Asker::connect(shared.dns[Side::Dataplane as usize])?;
        Ok(Eye { asker, message: questions.queries.message(0).to_vec() })
    }

    /// Asks, and says whether the answer has this address.
    pub fn sees(&mut self, address: Ipv4Addr) -> bool {
        let Ok((_, answer)) = self.asker.ask(&self.message) else { return false };
        message::read(&answer).is_ok_and(|read| read.answer.iter().any(|rr| rr.rdata == address.octets()))
    }
}
