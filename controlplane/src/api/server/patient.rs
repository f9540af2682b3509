//! A connection whose peer has to read what it asked for. hyper waits for ever until what it writes is taken: here the
//! wait has an end, and so has the patience with one who takes a few octets now and then.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::Limits;
use super::clients::Place;
use crate::observe::metrics::{Limit, Metrics};

/// See the module.
pub(super) struct Patient {
    stream: TcpStream,
    patience: Patience,
    /// Ends the present wait; set while there is one.
    end: Pin<Box<Sleep>>,
    waits: bool,
    /// Something of a request has come since the last octet that was written.
    has_begun: Arc<AtomicBool>,
    metrics: Metrics,
    /// Whatever becomes of the connection, it has one.
    _place: Place,
}

/// How long a peer may still keep an answer waiting: at most `most`, less what it has used up, more what it has earned
/// back by reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    most: Duration,
    left: Duration,
    octets_per_s: u32,
}

impl Patience {
    pub(super) fn new(limits: &Limits) -> Patience {
        let most = limits.write_timeout;
        Patience { most, left: most, octets_per_s: limits.read_octets_per_s }
    }

    /// Whether a wait of so long is too long.
    pub(super) fn is_over(&self, waited: Duration) -> bool {
        waited > self.left
    }

    /// Takes a wait of so long off, which ended with so many octets taken.
    pub(super) fn after(&mut self, waited: Duration, octets: usize) {
        let earned = u64::try_from(octets).unwrap_or(u64::MAX).saturating_mul(1_000_000);
        let earned = Duration::from_micros(earned / u64::from(self.octets_per_s.max(1)));
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(self.most);
    }
}

impl Patient {
    pub(super) fn new(stream: TcpStream, limits: &Limits, metrics: Metrics, place: Place) -> Patient {
        Patient {
            stream,
            patience: Patience::new(limits),
            end: Box::pin(tokio::time::sleep(limits.write_timeout)),
            waits: false,
            has_begun: Arc::default(),
            metrics,
            _place: place,
        }
    }

    /// Whether a request has begun to come that is not answered yet.
    pub(super) fn has_begun(&self) -> Arc<AtomicBool> {
        self.has_begun.clone()
    }

    /// What has come so far was no part of a request.
    pub(super) fn begin_anew(&self) {
        self.has_begun.store(false, Ordering::Relaxed);
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(result) => {
                let waited = if std::mem::take(&mut self.waits) {
                    self.patience.left.saturating_sub(self.end.deadline().duration_since(Instant::now()))
                } else {
                    Duration::ZERO
                };
                self.patience.after(waited, result.as_ref().map_or(0, |octets| *octets));
                self.has_begun.store(false, Ordering::Relaxed);
                Poll::Ready(result)
            }
            Poll::Pending => {
                if !self.waits {
                    self.waits = true;
                    self.end.as_mut().reset(Instant::now() + self.patience.left);
                }
                ready!(self.end.as_mut().poll(context));
                self.metrics.limited(Limit::WriteTime);
                // What the kernel holds of the answer goes with the connection.
                let _ = self.stream.set_zero_linger();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
        if buffer.filled().len() > before {
            this.has_begun.store(true, Ordering::Relaxed);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, octets);
        this.wrote(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Nothing is held back here: what was written is with the kernel.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_used_up_by_who_drips_and_not_by_who_reads() {
        let most = Duration::from_secs(10);
        let fresh = Patience { most, left: most, octets_per_s: 1_000 };
        for (row, waits, is_cut) in [
            ("stands still", &[(10_001, 0)][..], true),
            ("stands still and then reads all", &[(9_999, 1), (9_999, 1)], true),
            ("drips", &[(2_000, 1_000); 8], false),
            ("drips for ever", &[(2_000, 1_000); 12], true),
            ("reads just so", &[(2_000, 2_000); 50], false),
            ("reads fast after a pause", &[(9_000, 0), (1, 9_000_000), (9_000, 1)], false),
        ] {
            let mut patience = fresh;
            let cut = waits.iter().any(|&(waited_ms, octets)| {
                let waited = Duration::from_millis(waited_ms);
                let too_long = patience.is_over(waited);
                patience.after(waited, octets);
                assert!(patience.left <= most, "{row}");
                too_long
            });
            assert_eq!(cut, is_cut, "{row}");
        }
    }
}
