//! A way to change one record at a time: Godwit's API over HTTP, or RFC 2136 for the peers that have it.

use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::data::record::{Record, name_wire, rtype};
use crate::http::Connection;

/// One change under way at most. None of the calls waits.
pub trait Channel: fmt::Debug {
    /// Asks that this record replace the RRset of its name and type.
    ///
    /// # Errors
    /// The way is closed.
    fn send(&mut self, record: &Record) -> Result<()>;

    /// The answer to the change under way, if it is there: taken, or refused and why.
    ///
    /// # Errors
    /// The way is closed.
    fn poll(&mut self) -> Result<Option<Result<(), String>>>;

    /// To wait on.
    fn fd(&self) -> BorrowedFd<'_>;
}

impl Channel for Connection {
    fn send(&mut self, record: &Record) -> Result<()> {
        let value = [record.data.to_string()];
        let body = serde_json::json!({
            "type": rtype::mnemonic(record.data.rtype()), "ttl": record.ttl, "value": value,
        });
        Connection::send(self, "PUT", &format!("/api/v1/records/{}", record.owner), &body.to_string())
    }

    fn poll(&mut self) -> Result<Option<Result<(), String>>> {
        let response = Connection::poll(self)?;
        Ok(response.map(|response| response.ok("change").map(drop).map_err(|error| error.to_string())))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.stream().as_fd()
    }
}

/// How long an UPDATE may stay without an answer before it is sent again.
const RESEND: Duration = Duration::from_secs(2);

/// UPDATE messages (RFC 2136) over UDP.
#[derive(Debug)]
pub struct Update {
    socket: UdpSocket,
    zone: String,
    id: u16,
    under_way: Option<(Instant, Vec<u8>)>,
}

impl Update {
    /// A socket for the server of this zone.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn connect(server: SocketAddr, zone: &str) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("opening a UDP socket")?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(Update { socket, zone: zone.to_owned(), id: 0, under_way: None })
    }
}

impl Channel for Update {
    fn send(&mut self, record: &Record) -> Result<()> {
        self.id = self.id.wrapping_add(1);
        let message = message(self.id, &self.zone, record);
        self.socket.send(&message).context("sending an UPDATE")?;
        self.under_way = Some((Instant::now(), message));
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<Result<(), String>>> {
        let Some((sent, message)) = &mut self.under_way else { return Ok(None) };
        let mut answer = [0; 512];
        match self.socket.recv(&mut answer) {
            Ok(len) if len >= 12 && answer[..2] == message[..2] => {
                self.under_way = None;
                let rcode = answer[3] & 0x0F;
                Ok(Some(if rcode == 0 { Ok(()) } else { Err(format!("RCODE {rcode}")) }))
            }
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if sent.elapsed() > RESEND {
                    *sent = Instant::now();
                    self.socket.send(message).context("sending an UPDATE again")?;
                }
                Ok(None)
            }
            Err(error) => Err(error).context("receiving the answer to an UPDATE"),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Deletes the RRset of the record's name and type (RFC 2136 §2.5.2), then adds the record (§2.5.1).
fn message(id: u16, zone: &str, record: &Record) -> Vec<u8> {
    const IN: u16 = 1;
    const ANY: u16 = 255;
    let mut message = id.to_be_bytes().to_vec();
    // Opcode 5; one zone, no prerequisites, two updates, nothing additional.
    message.extend([0x28, 0, 0, 1, 0, 0, 0, 2, 0, 0]);
    message.extend(name_wire(zone));
    message.extend([rtype::SOA.to_be_bytes(), IN.to_be_bytes()].concat());
    let rdata = record.data.wire();
    for (class, ttl, rdata) in [(ANY, 0, &[][..]), (IN, record.ttl, &rdata[..])] {
        message.extend(name_wire(&record.owner));
        message.extend(record.data.rtype().to_be_bytes());
        message.extend(class.to_be_bytes());
        message.extend(ttl.to_be_bytes());
        message.extend(u16::try_from(rdata.len()).expect("generated RDATA is short").to_be_bytes());
        message.extend(rdata);
    }
    message
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::data::record::Data;

    #[test]
    fn an_update_is_as_the_rfc_draws_it() {
        let record = Record { owner: "a.z.".to_owned(), ttl: 60, data: Data::A(Ipv4Addr::new(192, 0, 2, 1)) };
        let expected = b"\x00\x07\x28\x00\x00\x01\x00\x00\x00\x02\x00\x00\x01z\x00\x00\x06\x00\x01\
            \x01a\x01z\x00\x00\x01\x00\xff\x00\x00\x00\x00\x00\x00\
            \x01a\x01z\x00\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01";
        assert_eq!(message(7, "z.", &record), expected);
    }
}
