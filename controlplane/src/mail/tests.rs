use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A server that takes every message, or answers each recipient with something else.
struct Sink {
    address: SocketAddr,
    messages: Arc<Mutex<Vec<String>>>,
}

impl Sink {
    async fn start(recipient: &'static str) -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let taken = messages.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, recipient, taken.clone()));
            }
        });
        Sink { address, messages }
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.mail.transport = MailTransport::Smtp;
        config.mail.url = Some(format!("smtp://{}", self.address));
        config.mail.from = Some("Godwit <dns@example.net>".to_owned());
        config
    }
}

async fn converse(stream: TcpStream, recipient: &'static str, taken: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut commands, mut text) = (String::new(), String::new(), None::<String>);
    let mut answer = "220 sink\r\n".to_owned();
    loop {
        if !answer.is_empty() {
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        line.clear();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        answer = match &mut text {
            Some(whole) if line == ".\r\n" => {
                taken.lock().unwrap().push(format!("{commands}{whole}"));
                text = None;
                "250 taken\r\n".to_owned()
            }
            Some(whole) => {
                whole.push_str(&line);
                String::new()
            }
            None => {
                commands.push_str(&line);
                match line.split([' ', '\r']).next().unwrap_or_default() {
                    "EHLO" => "250 sink\r\n".to_owned(),
                    "RCPT" => format!("{recipient}\r\n"),
                    "DATA" => {
                        text = Some(String::new());
                        "354 go on\r\n".to_owned()
                    }
                    "QUIT" => "221 bye\r\n".to_owned(),
                    _ => "250 good\r\n".to_owned(),
                }
            }
        };
    }
}

fn message() -> Message {
    Message {
        to: "ada@example.org".to_owned(),
        subject: "Grüße".to_owned(),
        text: "First.\n.\nLast, with a link: https://example.net/?a=b\n".to_owned(),
    }
}

#[tokio::test]
async fn a_message_arrives_whole() {
    let sink = Sink::start("250 good").await;
    Mailer::of(&sink.config()).unwrap().send(&message()).await.unwrap();
    let messages = sink.messages.lock().unwrap();
    let [text] = &messages[..] else { panic!("{messages:?}") };
    for part in [
        "MAIL FROM:<dns@example.net>",
        "RCPT TO:<ada@example.org>",
        "\r\nFrom: \"Godwit\" <dns@example.net>\r\n",
        "\r\nTo: ada@example.org\r\n",
        "\r\nSubject: =?utf-8?b?",
        "\r\nFirst.\r\n..\r\nLast, with a link: https://example.net/?a",
    ] {
        let is_there = text.contains(part) || text.contains(&part.replace("\"Godwit\"", "Godwit"));
        assert!(is_there, "{part:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn what_passes_is_told_from_what_does_not() {
    for (recipient, passes) in
        [("450 later", true), ("421 full", true), ("550 nobody", false), ("554 no", false)]
    {
        let sink = Sink::start(recipient).await;
        let error = Mailer::of(&sink.config()).unwrap().send(&message()).await.unwrap_err();
        assert_eq!(matches!(error, MailError::Passing(_)), passes, "{recipient}: {error}");
        assert!(sink.messages.lock().unwrap().is_empty());
    }
    // Nobody is there.
    let sink = Sink::start("").await;
    let mut config = sink.config();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    config.mail.url = Some(format!("smtp://{free}"));
    let error = Mailer::of(&config).unwrap().send(&message()).await.unwrap_err();
    assert!(matches!(error, MailError::Passing(_)), "{error}");
}

#[tokio::test]
async fn nobody_adds_a_header_or_a_recipient() {
    let sink = Sink::start("250 good").await;
    let mailer = Mailer::of(&sink.config()).unwrap();
    for to in [
        "a@example.org\r\nBcc: b@example.org",
        "a@example.org\nBcc: b@example.org",
        "a@example.org, b@example.org",
        "a@example.org>\r\nRCPT TO:<b@example.org",
        "A <a@example.org>",
        "\"a\r\nb\"@example.org",
        "a@example.org ",
        "a",
        "",
    ] {
        let error = mailer.send(&Message { to: to.to_owned(), ..message() }).await.unwrap_err();
        assert!(matches!(error, MailError::Final(_)), "{to:?}: {error}");
    }
    let long = "x".repeat(501);
    for subject in ["a\r\nBcc: b@example.org", "a\nb", "a\rb", "a\0b", "a\u{85}b", &long] {
        let error = mailer.send(&Message { subject: subject.to_owned(), ..message() }).await.unwrap_err();
        assert!(matches!(error, MailError::Final(_)), "{subject:?}: {error}");
    }
    assert!(sink.messages.lock().unwrap().is_empty());
}

#[tokio::test]
async fn files_are_whole_and_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.mail.transport = MailTransport::File;
    config.mail.from = Some("dns@example.net".to_owned());
    config.store.data = folder.path().to_path_buf();
    Mailer::of(&config).unwrap().send(&message()).await.unwrap();
    let files: Vec<PathBuf> =
        std::fs::read_dir(folder.path().join("mail")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    assert!(file.extension().is_some_and(|extension| extension == "eml"));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(file).unwrap().contains("To: ada@example.org\r\n"));
    // A folder that is none.
    config.mail.folder = Some(file.clone());
    let error = Mailer::of(&config).unwrap().send(&message()).await.unwrap_err();
    assert!(matches!(error, MailError::Passing(_)), "{error}");
}

#[tokio::test]
async fn off_says_so() {
    let error = Mailer::of(&Config::default()).unwrap().send(&message()).await.unwrap_err();
    assert_eq!(error.to_string(), "no mail is sent here: mail.transport is off in the configuration");
    assert!(matches!(error, MailError::Final(_)));
}

#[tokio::test]
async fn no_password_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "smtps://dns:hunter2@mail.example.net\n").unwrap();
    let mut config = Config::default();
    config.mail.transport = MailTransport::Smtp;
    config.mail.from = Some("dns@example.net".to_owned());
    config.mail.url_file = Some(file.clone());
    let mailer = Mailer::of(&config).unwrap();
    assert!(!format!("{mailer:?}").contains("hunter2"));
    std::fs::write(&file, "smtpx://dns:hunter2@mail.example.net\n").unwrap();
    let error = format!("{:#}", Mailer::of(&config).unwrap_err());
    assert!(error.contains("expected a URL like") && !error.contains("hunter2"), "{error}");
    config.mail.url_file = None;
    config.mail.url = Some("smtps://dns:hunter2@mail.example.net".to_owned());
    let shown = serde_json::to_string(&config).unwrap();
    assert!(shown.contains("smtps://dns@mail.example.net") && !shown.contains("hunter2"), "{shown}");
}
