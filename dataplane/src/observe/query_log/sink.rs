//! Where the query log goes: a file, a socket or standard output; opened, written to without waiting for long, and
//! closed. When to do which, and what to say of it, is the logger's part.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::frame_stream::{self, CONTROL_PREFIX_OCTETS, Control};
use crate::config::{QueryLogFormat, QueryLogTarget};
use crate::sys::readiness::{Interest, wait_for};

/// How long a TCP connection may take to be made, and a handshake to be answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a file that ends within a line stays as it is until we take it for left so.
const SETTLE: Duration = Duration::from_millis(100);
/// How often that is looked at.
const SETTLE_LOOKS: usize = 10;
/// What a file that is made may be read by: owner and group. It says who asked for what.
const FILE_MODE: u32 = 0o640;
/// What an older file of frames is renamed to: a stream cannot be appended to, its readers stop at its end.
const OLD_SUFFIX: &str = ".old";

/// A target, and the open end of it if there is one.
pub(super) struct Sink {
    target: QueryLogTarget,
    format: QueryLogFormat,
    output: Option<Output>,
}

struct Output {
    fd: File,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// A file with a place in the file system.
    Regular,
    /// Writing to it does not wait: named pipes, devices.
    Nonblocking,
    /// Likewise, and it can be read from.
    Socket,
    /// Others may hold it and not want it to be non-blocking: written to in portions that a pipe has room for.
    Shared,
}

impl Sink {
    pub(super) fn new(target: QueryLogTarget, format: QueryLogFormat) -> Self {
        Sink { target, format, output: None }
    }

    pub(super) fn target(&self) -> &QueryLogTarget {
        &self.target
    }

    pub(super) fn format(&self) -> QueryLogFormat {
        self.format
    }

    pub(super) fn is_open(&self) -> bool {
        self.output.is_some()
    }

    /// Whether the target has a place in the file system where others may put something else.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.target, QueryLogTarget::File(_))
    }

    /// How many octets that are written at once stand together in the end, whoever else writes there: as after a handover
    /// the process before us for a while.
    pub(super) fn kept_together(&self) -> usize {
        match &self.output {
            Some(Output { kind: Kind::Nonblocking | Kind::Shared, .. }) => libc::PIPE_BUF,
            _ => usize::MAX,
        }
    }

    /// Opens or connects, and begins the stream. Waits at most a few seconds.
    ///
    /// # Errors
    /// Which the system reports; `TimedOut` and `InvalidData` for a reader that does not shake hands.
    pub(super) fn open(&mut self) -> io::Result<()> {
        let mut output = match &self.target {
            QueryLogTarget::Stdout => {
                let fd = io::stdout().as_fd().try_clone_to_owned()?;
                Output { fd: fd.into(), kind: Kind::Shared }
            }
            QueryLogTarget::File(path) => open_file(path, self.format)?,
            QueryLogTarget::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                // Else a listener whose queue is full would be waited for.
                socket.set_nonblocking(true)?;
                socket.connect(&SockAddr::unix(path)?)?;
                Output { fd: OwnedFd::from(socket).into(), kind: Kind::Socket }
            }
            QueryLogTarget::Tcp(address) => {
                let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
                socket.connect_timeout(&(*address).into(), CONNECT_TIMEOUT)?;
                socket.set_nonblocking(true)?;
                socket.set_tcp_nodelay(true)?;
                Output { fd: OwnedFd::from(socket).into(), kind: Kind::Socket }
            }
        };
        if self.format == QueryLogFormat::Dnstap {
            output.begin_stream()?;
        }
        self.output = Some(output);
        Ok(())
    }

    /// Writes what there is room for; 0 when there was none for `wait`.
    ///
    /// # Errors
    /// Which the system reports.
    pub(super) fn write(&mut self, octets: &[u8], wait: Duration) -> io::Result<usize> {
        match &mut self.output {
            Some(output) => output.write(octets, wait),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// After an error: closes what a new attempt would open anew; whether it did. A file stays, with what was written of a
    /// record: when there is room again, the rest of it follows.
    pub(super) fn close_broken(&mut self) -> bool {
        let stays =
            self.output.as_ref().is_some_and(|output| output.kind == Kind::Regular) && !self.is_moved();
        if !stays {
            self.output = None;
        }
        !stays
    }

    /// Whether the file that we write to is no longer the one at its path.
    pub(super) fn is_moved(&self) -> bool {
        let (QueryLogTarget::File(path), Some(output)) = (&self.target, &self.output) else { return false };
        let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let ours = output.fd.metadata().map(place);
        output.kind == Kind::Regular
            && match (std::fs::metadata(path).map(place), ours) {
                (Ok(theirs), Ok(ours)) => theirs != ours,
                (Err(error), _) => error.kind() == ErrorKind::NotFound,
                _ => false,
            }
    }

    /// Ends the stream and closes; waits until `deadline` for a reader to say that it has read all.
    pub(super) fn finish(&mut self, deadline: Instant) {
        if let Some(mut output) = self.output.take()
            && self.format == QueryLogFormat::Dnstap
        {
            // The reader that does not see the end has everything before it all the same.
            let _ = output.end_stream(deadline);
        }
    }

    /// Closes without ending the stream: a record was begun that will not be written to its end.
    pub(super) fn abandon(&mut self) {
        self.output = None;
    }
}

fn open_file(path: &Path, format: QueryLogFormat) -> io::Result<Output> {
    let is_stream = format == QueryLogFormat::Dnstap;
    if is_stream && std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0) {
        std::fs::rename(path, old(path))?;
    }
    // Non-blocking for the sake of named pipes and terminals; files do not mind.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file =
        OpenOptions::new().create(true).append(true).mode(FILE_MODE).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && !is_stream && ends_within_a_line(path, &file)? {
        // Whoever wrote here before was interrupted within a line; ours begin on a new one.
        file.write_all(b"\n")?;
    }
    let kind = if metadata.is_file() { Kind::Regular } else { Kind::Nonblocking };
    Ok(Output { fd: file, kind })
}

/// Whether the last line is not whole and nobody is about to make it so. The process before us may be in the middle of a
/// write, of which the file shows the beginning.
fn ends_within_a_line(path: &Path, file: &File) -> io::Result<bool> {
    let mut len = file.metadata()?.len();
    for _ in 0..SETTLE_LOOKS {
        if len == 0 || ends_in_newline(path, len)? {
            return Ok(false);
        }
        std::thread::sleep(SETTLE);
        let now = file.metadata()?.len();
        if now == len {
            return Ok(true);
        }
        len = now;
    }
    // It is written to all the time, so it is not left.
    Ok(false)
}

fn ends_in_newline(path: &Path, len: u64) -> io::Result<bool> {
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, len - 1)?;
    Ok(last == *b"\n")
}

fn old(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(OLD_SUFFIX);
    name.into()
}

impl Output {
    fn write(&mut self, octets: &[u8], wait: Duration) -> io::Result<usize> {
        // More than there is room for would make it wait.
        let portion = if self.kind == Kind::Shared { libc::PIPE_BUF } else { octets.len() };
        let portion = &octets[..octets.len().min(portion)];
        if self.kind != Kind::Regular && !wait_for(self.fd.as_fd(), Interest::Write, wait) {
            return Ok(0);
        }
        match self.fd.write(portion) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            other => other,
        }
    }

    fn write_all(&mut self, mut octets: &[u8], deadline: Instant) -> io::Result<()> {
        while !octets.is_empty() {
            let count = self.write(octets, left(deadline)?)?;
            octets = &octets[count..];
        }
        Ok(())
    }

    fn read_exact(&mut self, mut place: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !place.is_empty() {
            if !wait_for(self.fd.as_fd(), Interest::Read, left(deadline)?) {
                continue;
            }
            match self.fd.read(place) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => place = &mut place[count..],
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// With a reader at the other end, asks it whether it takes what we have.
    fn begin_stream(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        if self.kind == Kind::Socket {
            self.write_all(&frame_stream::control(Control::Ready), deadline)?;
            self.expect(Control::Accept, deadline)?;
        }
        self.write_all(&frame_stream::control(Control::Start), deadline)
    }

    fn end_stream(&mut self, deadline: Instant) -> io::Result<()> {
        self.write_all(&frame_stream::control(Control::Stop), deadline)?;
        if self.kind == Kind::Socket { self.expect(Control::Finish, deadline) } else { Ok(()) }
    }

    fn expect(&mut self, control: Control, deadline: Instant) -> io::Result<()> {
        let mut prefix = [0; CONTROL_PREFIX_OCTETS];
        self.read_exact(&mut prefix, deadline)?;
        let wrong =
            || io::Error::new(ErrorKind::InvalidData, format!("no {control:?} frame for dnstap came"));
        let mut payload = vec![0; frame_stream::control_len(prefix).ok_or_else(wrong)?];
        self.read_exact(&mut payload, deadline)?;
        if frame_stream::is_control(&payload, control) { Ok(()) } else { Err(wrong()) }
    }
}

/// What is left until the deadline.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}
