//! What is said between the control plane and the child that makes calls: frames of a length (4 octets, big-endian) and JSON.
//! First [`Settings`], which the child answers with [`Said::Ready`]; then [`Asked`] one after the other, and for each, in any order, a
//! [`Said::Done`].

use std::io;
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::address::Permits;
use super::{Call, Outcome};

/// The most octets of a frame.
const MOST: usize = 1 << 20;

/// All that the child knows. It has no environment, no configuration and no database.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Settings {
    pub(super) permits: Permits,
    /// Names under which this control plane is reached.
    pub(super) own_names: Vec<String>,
    /// Who is asked for addresses, one behind the other.
    pub(super) resolvers: Vec<SocketAddr>,
    /// Certificates (PEM) that are trusted besides those of the system.
    pub(super) authorities: Option<String>,
}

/// A call that is to be made.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Asked {
    pub(super) id: u64,
    pub(super) call: Call,
}

/// What the child says.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Said {
    /// It takes calls.
    Ready,
    /// What came of one.
    Done { id: u64, outcome: Outcome },
}

/// A frame.
pub(super) fn frame(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= MOST);
    let length = length.ok_or(io::ErrorKind::FileTooLarge)?;
    Ok([length.to_be_bytes().as_slice(), json.as_slice()].concat())
}

/// Writes one.
pub(super) async fn write(output: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    output.write_all(&frame(value)?).await?;
    output.flush().await
}

/// Reads one; `None` at the end.
pub(super) async fn read<T: DeserializeOwned>(input: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    if let Err(error) = input.read_exact(&mut length).await {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MOST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut json = vec![0; length];
    input.read_exact(&mut json).await?;
    Ok(Some(serde_json::from_slice(&json)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_what_is_none_is_refused() {
        let call =
            Call { url: "https://a.b/".to_owned(), headers: Vec::new(), body: "{\"ü\":\"\n\"}".to_owned() };
        let mut octets = Vec::new();
        write(&mut octets, &Asked { id: 7, call: call.clone() }).await.unwrap();
        let mut rest = octets.as_slice();
        let asked: Asked = read(&mut rest).await.unwrap().unwrap();
        assert_eq!((asked.id, asked.call), (7, call));
        assert!(read::<Asked>(&mut rest).await.unwrap().is_none());
        for wrong in [&octets[..octets.len() - 1], &[0xff, 0xff, 0xff, 0xff, b'{'], &[0, 0, 0, 2, b'[', b']']]
        {
            assert!(read::<Asked>(&mut &wrong[..]).await.is_err(), "{wrong:?}");
        }
    }
}
