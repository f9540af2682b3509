//! A small HTTP/1.1 client for Godwit's API on loopback: requests as octets, responses from a buffer, so that it can be used
//! both waiting and between two batches of the generator. No TLS, no redirects, no chunked bodies: the API sends none.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

/// How often somebody who waits for a response looks whether the time is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Status, headers and body of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Three digits.
    pub status: u16,
    /// Names as they came, and values that are text.
    pub headers: Vec<(String, String)>,
    /// Whatever came.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body, for people.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The response if it says that all went well.
    ///
    /// # Errors
    /// Any status but 2xx, with the body.
    pub fn ok(self, what: &str) -> Result<Response> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        bail!("{what}: status {}: {}", self.status, self.text())
    }
}

/// A connection that is kept open, with at most one request under way.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    token: String,
    inbox: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open(api: SocketAddr, token: &str) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&api, Duration::from_secs(5))
            .with_context(|| format!("connecting to the API at {api}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Connection { stream, token: token.to_owned(), inbox: Vec::new() })
    }

    /// The socket, for epoll.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// From now on [`Connection::poll`] does not wait.
    ///
    /// # Errors
    /// The system refuses.
    pub fn set_nonblocking(&self) -> Result<()> {
        Ok(self.stream.set_nonblocking(true)?)
    }

    /// Whether the other side has closed it while nothing was under way: it takes no request any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.stream.as_raw_fd(), &mut [0], look) != Err(Errno::EAGAIN)
    }

    /// Sends a request whole; small ones fit the socket's buffer, so this does not wait on them.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, method: &str, path: &str, body: &str) -> Result<()> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        self.stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).context("sending a request")
    }

    /// Reads what is there; the response once it is whole.
    ///
    /// # Errors
    /// The connection is gone, or what came is not HTTP/1.1 as described above.
    pub fn poll(&mut self) -> Result<Option<Response>> {
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("the API closed the connection"),
            Ok(read) => self.inbox.extend(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(error).context("reading a response"),
        }
        let Some((response, len)) = parse(&self.inbox)? else { return Ok(None) };
        self.inbox.drain(..len);
        Ok(Some(response))
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// As [`Connection::send`] and [`Connection::poll`], and the user's wish to end.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Response> {
        self.send(method, path, body)?;
        loop {
            crate::interrupt::check()?;
            if let Some(response) = self.poll()? {
                return Ok(response);
            }
        }
    }

    /// As [`Connection::ask`], but for so long at most, and whatever the user wishes: whoever has begun to end things must
    /// be able to ask.
    ///
    /// # Errors
    /// As [`Connection::send`] and [`Connection::poll`]; no response in time, after which the connection is of no more use.
    pub fn ask_within(&mut self, method: &str, path: &str, body: &str, time: Duration) -> Result<Response> {
        let end = Instant::now() + time;
        self.stream.set_read_timeout(Some(LOOK_EVERY))?;
        self.send(method, path, body)?;
        loop {
            if let Some(response) = self.poll()? {
                return Ok(response);
            }
            anyhow::ensure!(Instant::now() < end, "no response to {method} {path} in {time:?}");
        }
    }
}

/// The first response in a buffer and how many octets it takes; nothing while it is not whole.
fn parse(octets: &[u8]) -> Result<Option<(Response, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(octets).context("not an HTTP/1.1 response")? else {
        return Ok(None);
    };
    let status = head.code.context("no status")?;
    if head.headers.iter().any(|header| header.name.eq_ignore_ascii_case("transfer-encoding")) {
        bail!("a chunked response, which the API is not known to send");
    }
    let texts = head.headers.iter().filter_map(|header| {
        Some((header.name.to_owned(), std::str::from_utf8(header.value).ok()?.to_owned()))
    });
    let texts = texts.collect();
    let len = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let len = match len {
        Some(header) => {
            std::str::from_utf8(header.value)?.trim().parse::<usize>().context("Content-Length")?
        }
        None => 0,
    };
    let Some(body) = octets.get(start..start + len) else { return Ok(None) };
    Ok(Some((Response { status, headers: texts, body: body.to_vec() }, start + len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_the_other_side_closed_is_known() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = Connection::open(listener.local_addr().unwrap(), "x").unwrap();
        let (other, _) = listener.accept().unwrap();
        assert!(!connection.is_closed());
        drop(other);
        let end = Instant::now() + Duration::from_secs(10);
        while !connection.is_closed() {
            assert!(Instant::now() < end);
        }
    }

    #[test]
    fn responses_are_cut_from_the_stream() {
        let stream = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 204 No Content\r\n\r\n";
        let (first, len) = parse(stream).unwrap().unwrap();
        assert_eq!(
            (first.status, &first.body[..], first.header("Content-Length")),
            (200, &b"{}"[..], Some("2"))
        );
        let (second, rest) = parse(&stream[len..]).unwrap().unwrap();
        assert_eq!((second.status, len + rest), (204, stream.len()));
        assert!((0..len).all(|cut| parse(&stream[..cut]).unwrap().is_none()));
    }
}
