//! What secrets are sealed with, changed from the command line beside a server that runs.

use serde_json::Value;

use crate::process::{Started, godwit, output};

fn said(command: &mut std::process::Command) -> Value {
    let ended = output(command.arg("--json"));
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(0), "{command:?}: {stderr}");
    serde_json::from_slice(&ended.stdout).unwrap()
}

#[test]
fn keys_are_changed_beside_a_server_that_runs() {
    let started = Started::first();
    let keys = |words: &[&str]| {
        let mut command = started.command();
        command.arg("keys").args(words);
        command
    };
    let before = said(&mut keys(&["list"]));
    assert_eq!((before["items"].as_array().unwrap().len(), &before["items"][0]["id"]), (1, &1.into()));
    assert_eq!(said(&mut keys(&["rotate"]))["key"], 2);
    let after = said(&mut keys(&["list"]));
    assert_eq!((after["items"].as_array().unwrap().len(), &after["items"][0]["id"]), (1, &2.into()));

    let refused = output(&mut keys(&["rewrap"]));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && text.contains("secrets.key.next"), "{text}");
    let place = started.data().join("secrets.key");
    let next = started.data().join("secrets.key.next");
    let made = said(godwit().args(["keys", "make"]).arg(&next));
    let again = output(godwit().args(["keys", "make"]).arg(&next));
    assert_eq!(again.status.code(), Some(2));
    let both = said(&mut keys(&["rewrap"]));
    assert_eq!(both["items"][0]["masters"].as_array().unwrap().len(), 2, "{both}");
    assert_eq!(output(&mut keys(&["rewrap", "--finish"])).status.code(), Some(1));
    std::fs::rename(&next, &place).unwrap();
    let done = said(&mut keys(&["rewrap", "--finish"]));
    assert_eq!((&done["master"], &done["items"][0]["masters"][0]), (&made["id"], &made["id"]), "{done}");
    assert_eq!(done["items"][0]["masters"].as_array().unwrap().len(), 1);
    let listed = output(&mut keys(&["list"]));
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.starts_with("data key 2 of ") && text.contains("the server has master key "), "{text}");
}
