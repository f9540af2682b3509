//! Servers of the DNS that say what a test has them say.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

/// Answers by UDP and TCP; of a question, and whether it came by UDP, each of the answers is sent.
pub(crate) fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    answers: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Clone + Send + 'static,
) {
    let by_udp = answers.clone();
    tokio::spawn(async move {
        let mut octets = [0; 512];
        loop {
            let (len, peer) = udp.recv_from(&mut octets).await.unwrap();
            for answer in by_udp(&octets[..len], true) {
                udp.send_to(&answer, peer).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let Ok(len) = stream.read_u16().await else { continue };
            let mut octets = vec![0; usize::from(len)];
            stream.read_exact(&mut octets).await.unwrap();
            for answer in answers(&octets, false) {
                let len = u16::try_from(answer.len()).unwrap();
                stream.write_all(&[&len.to_be_bytes(), answer.as_slice()].concat()).await.unwrap();
            }
        }
    });
}

/// The name that a question is about, small and with its final dot, and where its type begins.
pub(crate) fn asked(question: &[u8]) -> (String, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while question[at] != 0 {
        let len = usize::from(question[at]);
        labels.push(String::from_utf8(question[at + 1..=at + len].to_vec()).unwrap().to_lowercase());
        at += len + 1;
    }
    (labels.join(".") + ".", at + 1)
}
