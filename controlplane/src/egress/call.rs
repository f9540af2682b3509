//! One call, from the name to the status: looked up once, judged, and connected to exactly what was judged.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use godwit_wire::name::Name;
use godwit_wire::presentation::Printable;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::address::{Permits, here};
use super::target::{Host, Target};
use super::{Call, Outcome, PATIENCE};
use crate::names::resolver;

/// How long one of several resolvers, or addresses, is waited for.
const PART: Duration = Duration::from_millis(1_500);
/// The most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 4;
/// The most octets that are read of what is answered: of its header, and of its body.
const MOST_READ: usize = 64 << 10;
/// The most octets of why a certificate is not good.
const MOST_WHY: usize = 200;

/// What the child knows.
pub(super) struct World {
    pub(super) permits: Permits,
    pub(super) own_names: Vec<String>,
    pub(super) resolvers: Vec<SocketAddr>,
    pub(super) tls: Arc<ClientConfig>,
}

impl World {
    /// Makes one, within [`PATIENCE`].
    pub(super) async fn call(&self, call: &Call) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let asked = timeout_at(deadline, self.ask(call)).await;
        let late =
            || Err(Outcome::Failed(format!("it did not answer within {} seconds", PATIENCE.as_secs())));
        match asked.unwrap_or_else(|_| late()) {
            Ok(response) => {
                let status = response.status().as_u16();
                // That it was read by then does not matter.
                let _ = timeout_at(deadline, pass_over(response.into_body())).await;
                Outcome::Answered { status }
            }
            Err(outcome) => outcome,
        }
    }

    async fn ask(&self, call: &Call) -> Result<Response<Incoming>, Outcome> {
        let failed = |why: &str| Outcome::Failed(why.to_owned());
        let target = Target::read(&call.url)
            .map_err(|why| Outcome::Refused(format!("the URL is not called: {why}")))?;
        let stream = self.connect(&target).await?;
        let name = ServerName::try_from(target.host.text())
            .map_err(|_| Outcome::Refused("no certificate can be for its name".to_owned()))?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(|error| {
            let mut why = Printable(&error.to_string()).to_string();
            why.truncate(why.floor_char_boundary(MOST_WHY));
            Outcome::Failed(format!("TLS failed: {why}"))
        })?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MOST_READ)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| failed("it does not speak HTTP"))?;
        let mut request = Request::post(target.path.as_str())
            .header(HOST, target.authority())
            .header(USER_AGENT, concat!("godwit/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close");
        for (name, value) in &call.headers {
            request = request.header(name.as_str(), value.as_str());
        }
        let request = request.body(Full::new(Bytes::from(call.body.clone())));
        let request = request.map_err(|_| Outcome::Refused("the request has no form in HTTP".to_owned()))?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|_| failed("it ended the connection without an answer"))
    }

    /// A connection to an address that was judged. It is not looked up again: whoever answers for the name may say something else by
    /// then.
    async fn connect(&self, target: &Target) -> Result<TcpStream, Outcome> {
        let addresses = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                if self.own_names.iter().any(|own| *own == target.host.text()) {
                    return Err(Outcome::Refused(
                        "its name is that of this server, and is not called".to_owned(),
                    ));
                }
                self.look_up(name).await?
            }
        };
        let here = here();
        let mut good = Vec::new();
        let mut refused = None;
        for address in addresses {
            let address = SocketAddr::new(address, target.port);
            match self.permits.judge(address, &here) {
                Ok(()) => good.push(address),
                Err(why) => refused = Some(why),
            }
        }
        if good.is_empty() {
            return Err(match refused {
                Some(why) => Outcome::Refused(format!("its address is {why}, and is not called")),
                None => Outcome::Failed("its name has no address".to_owned()),
            });
        }
        for address in good.into_iter().take(MOST_ADDRESSES) {
            if let Ok(Ok(stream)) = timeout(PART, TcpStream::connect(address)).await {
                return Ok(stream);
            }
        }
        Err(Outcome::Failed("no connection to it is to be had".to_owned()))
    }

    async fn look_up(&self, name: &Name) -> Result<Vec<IpAddr>, Outcome> {
        let (four, six) = tokio::join!(self.of_family(name, false), self.of_family(name, true));
        match (four, six) {
            (Ok(four), Ok(six)) => Ok(four.into_iter().chain(six).collect()),
            (Ok(some), Err(())) | (Err(()), Ok(some)) => Ok(some),
            (Err(()), Err(())) => Err(Outcome::Failed("its name could not be looked up".to_owned())),
        }
    }

    /// What the first resolver says that says something.
    async fn of_family(&self, name: &Name, is_six: bool) -> Result<Vec<IpAddr>, ()> {
        for resolver in &self.resolvers {
            if let Ok(Ok(addresses)) = timeout(PART, resolver::addresses(*resolver, name, is_six)).await {
                return Ok(addresses);
            }
        }
        Err(())
    }
}

/// Reads on for a while, so that whoever answers is not cut off; what it is, nobody is told.
async fn pass_over(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read >= MOST_READ {
            return;
        }
    }
}
