//! People at a server: accounts, and the mail that goes out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use godwit_controlplane::config::Names;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, folder};
use crate::replica::Replica;

pub(crate) const PASSWORD: &str = "correct horse battery";

/// A server whose mail goes into a folder.
pub(crate) struct Office {
    pub(crate) server: Server,
    pub(crate) mail: PathBuf,
}

impl Office {
    pub(crate) async fn open() -> Office {
        Office::open_with(|_| {}).await
    }

    /// One where names are given as they are without any setting.
    pub(crate) async fn with_names(adjust: impl FnOnce(&mut Names)) -> Office {
        Office::open_with(|config| {
            config.names = Names::default();
            // Nobody outside is asked.
            config.names.resolvers = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
            adjust(&mut config.names);
        })
        .await
    }

    /// The same with other settings.
    pub(crate) async fn open_with(adjust: impl FnOnce(&mut godwit_controlplane::Config)) -> Office {
        let folder = folder();
        let mail = folder.path().join("mail");
        let place = mail.clone();
        let server = Server::start_in(folder, Replica::default(), None, move |config| {
            config.mail.transport = godwit_controlplane::config::MailTransport::File;
            config.mail.folder = Some(place);
            config.mail.from = Some("godwit@dns.test".to_owned());
            // Whose a name is is asked in tests of that alone: see `with_names`.
            config.names.require_proof = false;
            config.names.quarantine_days = 0;
            adjust(config);
        });
        Office { server: server.await, mail }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.server.client
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.client()
            .send(
                "POST",
                path,
                &[("content-type", "application/json"), ("authorization", "")],
                serde_json::to_vec(&body).unwrap(),
            )
            .await
    }

    /// The next letter to an address that has a text in it; it is taken out of the folder.
    pub(crate) async fn letter(&self, to: &str, with: &str) -> String {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            for file in letters(&self.mail) {
                // Long lines are broken on the way (RFC 2045 §6.7).
                let text = std::fs::read_to_string(&file).unwrap().replace("=\r\n", "").replace("=3D", "=");
                if text.contains(&format!("To: {to}")) && text.contains(with) {
                    std::fs::remove_file(file).unwrap();
                    return text;
                }
            }
            assert!(tokio::time::Instant::now() < deadline, "no letter to {to} with {with:?} came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The secret of the link in the next letter.
    pub(crate) async fn link(&self, to: &str, page: &str) -> String {
        let letter = self.letter(to, page).await;
        let (_, rest) = letter.split_once("token=").unwrap_or_else(|| panic!("no link in {letter}"));
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        rest[..end].to_owned()
    }

    pub(crate) async fn register(&self, email: &str, password: &str) {
        let body = json!({ "email": email, "password": password, "name": "Anna" });
        assert_eq!(
            self.post("/api/v1/auth/register", body).await.expect(202).json(),
            json!({ "state": "sent" })
        );
    }

    /// Somebody with an account.
    pub(crate) async fn somebody(&self, email: &str) -> Person {
        self.register(email, PASSWORD).await;
        let token = self.link(email, "/account/verify").await;
        self.post("/api/v1/auth/verify", json!({ "token": token, "password": PASSWORD })).await.expect(201);
        self.log_in(email, PASSWORD).await
    }

    pub(crate) async fn log_in(&self, email: &str, password: &str) -> Person {
        let answer = self.post("/api/v1/auth/login", json!({ "email": email, "password": password })).await;
        self.person(&answer.expect(200).json())
    }

    pub(crate) fn person(&self, tokens: &Value) -> Person {
        let token = tokens["access_token"].as_str().unwrap().to_owned();
        Person {
            client: Client { token, ..self.client().clone() },
            refresh: tokens["refresh_token"].as_str().unwrap().to_owned(),
            session: tokens["session"].as_str().unwrap().to_owned(),
        }
    }
}

/// Somebody who has logged in.
pub(crate) struct Person {
    pub(crate) client: Client,
    pub(crate) refresh: String,
    pub(crate) session: String,
}

impl Person {
    /// Waits until the access token is refused; not for longer than a second.
    pub(crate) async fn until_refused(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        loop {
            let answer = self.client.get("/api/v1/users/me").await;
            if answer.status == 401 {
                assert_eq!(answer.code(), "TOKEN_REVOKED");
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "it is taken after a second: {}", answer.text);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(crate) fn letters(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "eml")).collect()
}
