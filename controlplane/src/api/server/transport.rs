//! How octets come and go: as they are, or inside TLS, which has to begin in time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::patient::Patient;
use crate::observe::metrics::{Limit, Metrics};

/// See the module.
#[derive(Clone)]
pub enum Transport {
    /// As they are.
    Plain,
    /// Inside TLS.
    Tls(Tls),
}

/// What TLS needs.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    handshake_timeout: Duration,
}

impl Transport {
    /// Inside TLS, which has so long to begin.
    #[must_use]
    pub fn tls(config: Arc<ServerConfig>, handshake_timeout: Duration) -> Transport {
        Transport::Tls(Tls { acceptor: config.into(), handshake_timeout })
    }

    /// Begins; an error is the end of the connection.
    pub(super) async fn begin(&self, stream: Patient, metrics: &Metrics) -> io::Result<Stream> {
        let Transport::Tls(tls) = self else { return Ok(Stream::Plain(Box::new(stream))) };
        match tokio::time::timeout(tls.handshake_timeout, tls.acceptor.accept(stream)).await {
            Ok(begun) => {
                let stream = begun?;
                // That was no part of a request.
                stream.get_ref().0.begin_anew();
                Ok(Stream::Tls(Box::new(stream)))
            }
            Err(_) => {
                metrics.limited(Limit::HandshakeTime);
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }
}

/// A connection that has begun.
pub(super) enum Stream {
    Plain(Box<Patient>),
    Tls(Box<TlsStream<Patient>>),
}

impl Stream {
    /// Whether the client chose HTTP/2.
    pub(super) fn is_multiplexed(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, octets),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
