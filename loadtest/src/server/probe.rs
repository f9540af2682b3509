//! Single questions, to learn whether a server is up and right. Not for measuring.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::data::truth::compare;
use crate::data::{Question, Source, Workload};
use crate::load::queries::Queries;

/// A question with its message.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The question and its right answer.
    pub question: Question,
    message: Vec<u8>,
}

impl Probe {
    /// Some questions spread over a workload.
    #[must_use]
    pub fn spread(source: &Source, workload: Workload, count: u32) -> Vec<Probe> {
        let step = (source.question_count(workload) / count.max(1)).max(1);
        (0..count)
            .map(|number| {
                let question = source.question(workload, number * step);
                let one = [(question.name.as_str(), question.qtype)];
                let message = Queries::new(workload.edns(), one.into_iter()).message(0).to_vec();
                Probe { question, message }
            })
            .collect()
    }
}

/// Asks one question at a time.
#[derive(Debug)]
pub struct Prober {
    socket: UdpSocket,
    id: u16,
    buffer: Vec<u8>,
}

impl Prober {
    /// A socket for one server.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn connect(server: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0").context("opening a UDP socket")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Prober { socket, id: 0, buffer: vec![0; 65_535] })
    }

    /// Asks and compares with the truth.
    ///
    /// # Errors
    /// No answer, or what differs.
    pub fn right(&mut self, probe: &Probe) -> Result<(), String> {
        let (query, len) = self.ask(probe)?;
        compare(&query, &self.buffer[..len], &probe.question.expected)
    }

    /// Asks and takes any answer with the same ID.
    ///
    /// # Errors
    /// No answer.
    pub fn any(&mut self, probe: &Probe) -> Result<(), String> {
        self.ask(probe).map(drop)
    }

    fn ask(&mut self, probe: &Probe) -> Result<(Vec<u8>, usize), String> {
        self.id = self.id.wrapping_add(1);
        let mut query = probe.message.clone();
        query[..2].copy_from_slice(&self.id.to_be_bytes());
        self.socket.send(&query).map_err(|error| format!("not sent: {error}"))?;
        loop {
            match self.socket.recv(&mut self.buffer) {
                // An answer to an earlier question that came late.
                Ok(len) if len < 12 || self.buffer[..2] != query[..2] => {}
                Ok(len) => return Ok((query, len)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("no answer: {error}")),
            }
        }
    }
}
