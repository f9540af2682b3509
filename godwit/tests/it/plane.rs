//! A control plane in the process of the test, without a data plane beside it: it can have what `godwit run` has not, as Redis.

use std::thread::JoinHandle;

use godwit_controlplane::{Config, Controlplane, FirstStart};
use serde_json::json;
use tokio::sync::watch;

use crate::http::Api;

/// Stopped when it is dropped.
pub(crate) struct Plane {
    pub(crate) api: Api,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Plane {
    /// Starts it on free ports, with the example zone in a new database. `token`: where it is not the first start.
    pub(crate) fn start(mut config: Config, token: Option<&str>) -> Plane {
        config.api.listen = "127.0.0.1:0".parse().unwrap();
        config.internal.listen.get_or_insert_with(|| "127.0.0.1:0".to_owned());
        let (stop, stopped) = watch::channel(false);
        let (started, starting) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async {
                let opened = Controlplane::open(config, FirstStart::ExampleZone, None).await.unwrap();
                let token = opened.new_token().map(godwit_controlplane::auth::Token::reveal);
                started.send((opened.api_address().unwrap(), token)).unwrap();
                opened.serve(None, stopped).await.unwrap();
            });
        });
        let (address, made) = starting.recv().expect("the control plane does not start");
        let token = token.map(str::to_owned).or(made).unwrap();
        Plane { api: Api { address, token }, stop, thread: Some(thread) }
    }

    /// Adds a node: what it joins with.
    pub(crate) fn add(&self, name: &str) -> String {
        let answer = self.api.post("/api/v1/nodes", &json!({ "name": name }));
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["join"].as_str().unwrap().to_owned()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}
