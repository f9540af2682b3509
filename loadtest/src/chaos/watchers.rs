//! Somebody who asks one data plane for names all the time, and judges every answer.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};

use super::ledger::{self, number_in};
use super::shared::Shared;
use crate::data::draw::Draw;
use crate::data::record::rtype;
use crate::load::queries::Queries;
use crate::message;

/// An answer that is not there after this is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(4);
/// RCODE (RFC 1035 §4.1.1).
const SERVFAIL: u8 = 2;

/// What an answer says of a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said {
    /// The value of the write of this number.
    Number(u32),
    /// SERVFAIL.
    NotReady,
    /// Something else, by RCODE and answers.
    Other(u8, usize),
    /// Nothing.
    Lost,
}

/// A socket to one data plane.
#[derive(Debug)]
pub struct Asker {
    socket: UdpSocket,
    id: u16,
}

impl Asker {
    /// Connects.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn connect(dns: std::net::SocketAddr) -> Result<Asker> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("opening a UDP socket")?;
        socket.connect(dns)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Asker { socket, id: 0 })
    }

    /// Asks for the A records of a name.
    pub fn ask(&mut self, name: u32) -> Said {
        let name = ledger::name(name);
        let mut query = Queries::new(false, [(name.as_str(), rtype::A)].into_iter()).message(0).to_vec();
        self.id = self.id.wrapping_add(1);
        query[..2].copy_from_slice(&self.id.to_be_bytes());
        // Nobody listens there while it is down.
        if self.socket.send(&query).is_err() {
            std::thread::sleep(PAUSE);
            return Said::Lost;
        }
        let mut buffer = [0; 4_096];
        loop {
            let len = match self.socket.recv(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Said::Lost,
            };
            let Ok(answer) = message::read(&buffer[..len]) else { return Said::Other(0xFF, 0) };
            if answer.id != self.id {
                continue;
            }
            let numbers = answer.answer.iter().filter(|rr| rr.rtype == rtype::A).filter_map(|rr| {
                let octets: [u8; 4] = rr.rdata.as_slice().try_into().ok()?;
                number_in(Ipv4Addr::from(octets))
            });
            return match (answer.rcode(), numbers.collect::<Vec<_>>().as_slice()) {
                (0, &[number]) if answer.answer.len() == 1 => Said::Number(number),
                (SERVFAIL, []) => Said::NotReady,
                (rcode, _) => Said::Other(rcode, answer.answer.len()),
            };
        }
    }
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Right(u32),
    NotReady,
    Lost,
    Wrong,
}

/// The numbers are from the last that was seen to the last that was asked for.
fn judge(said: Said, numbers: RangeInclusive<u32>, may_be_empty: bool) -> Verdict {
    match said {
        Said::Number(number) if numbers.contains(&number) => Verdict::Right(number),
        Said::NotReady if may_be_empty => Verdict::NotReady,
        Said::Lost => Verdict::Lost,
        Said::Number(_) | Said::NotReady | Said::Other(..) => Verdict::Wrong,
    }
}

/// Asks data plane `index` until it is over.
pub fn run(shared: &Shared, index: usize, seed: u64) {
    let watched = &shared.nodes[index];
    let Ok(mut asker) = Asker::connect(watched.dns) else {
        shared.course.fail("a socket to ask with could not be had");
        return;
    };
    let mut draw = Draw::new(seed, "chaos watcher", index as u64);
    let (mut seen, mut seen_in) = (HashMap::new(), 0);
    while shared.course.wait(PAUSE) {
        let settled = shared.settled.load(Ordering::SeqCst);
        if settled == 0 {
            continue;
        }
        let name = draw.below(u64::from(settled)) as u32;
        let (life, was_up) = (watched.life.load(Ordering::SeqCst), watched.is_up.load(Ordering::SeqCst));
        if life != seen_in {
            seen.clear();
            seen_in = life;
        }
        let said = asker.ask(name);
        // What happened meanwhile says how to take it.
        let is_up = was_up && watched.is_up.load(Ordering::SeqCst);
        let same_life =
            watched.life.load(Ordering::SeqCst) == life && !shared.goes_back.load(Ordering::SeqCst);
        // A number of a write that was sent while we asked counts.
        let most = shared.ledger.of(name).sent.load(Ordering::SeqCst);
        let least = if same_life { seen.get(&name).copied().unwrap_or(1) } else { 1 };
        let may_be_empty = watched.may_be_empty.load(Ordering::SeqCst);
        match judge(said, least..=most, may_be_empty) {
            Verdict::Right(number) => {
                watched.note(|tally| tally.judged += 1);
                if same_life {
                    seen.insert(name, number);
                }
            }
            Verdict::NotReady => watched.note(|tally| tally.not_ready += 1),
            Verdict::Lost if is_up && watched.life.load(Ordering::SeqCst) == life => {
                watched.note(|tally| tally.lost_outside += 1);
                shared.course.fail(&format!("node{}: no answer for {}", index + 1, ledger::name(name)));
            }
            Verdict::Lost => watched.note(|tally| tally.lost_inside += 1),
            Verdict::Wrong => {
                watched.note(|tally| (tally.judged, tally.wrong) = (tally.judged + 1, tally.wrong + 1));
                shared.course.fail(&format!(
                    "node{}: wrong for {}: {said:?}, expected {least} to {most}",
                    index + 1,
                    ledger::name(name)
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let judged = |said| judge(said, 3..=5, false);
        assert_eq!(judged(Said::Number(3)), Verdict::Right(3));
        assert_eq!(judged(Said::Number(5)), Verdict::Right(5));
        assert_eq!(judged(Said::Number(2)), Verdict::Wrong, "it went back");
        assert_eq!(judged(Said::Number(6)), Verdict::Wrong, "nobody has asked for that");
        assert_eq!(judged(Said::Other(3, 0)), Verdict::Wrong, "a name that there is does not exist");
        assert_eq!(judged(Said::NotReady), Verdict::Wrong);
        assert_eq!(judge(Said::NotReady, 3..=5, true), Verdict::NotReady);
        assert_eq!(judge(Said::Other(3, 0), 3..=5, true), Verdict::Wrong, "empty is not: does not exist");
        assert_eq!(judged(Said::Lost), Verdict::Lost);
    }
}
