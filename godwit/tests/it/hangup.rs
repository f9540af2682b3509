//! SIGHUP to `godwit run`: what the data plane has in files is read again, and the query log goes on in a new file.

use std::path::Path;

use crate::dns::{self, A};
use crate::process::{Started, wait_for};

/// Waits until a line of the query log tells of this name.
fn logged(path: &Path, name: &str) {
    wait_for(name, || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.contains(&format!("\"qname\":\"{name}\"")).then_some(())
    });
}

#[test]
fn a_hangup_rereads_cookie_secrets_and_goes_on_in_a_new_query_log() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let (config, secrets, log, moved) =
        (path("godwit.toml"), path("secrets"), path("queries.json"), path("queries.json.1"));
    std::fs::write(&secrets, "00112233445566778899aabbccddeeff\n").unwrap();
    let text =
        format!("[cookies]\nsecrets_file = {secrets:?}\n[query_log]\nmode = \"full\"\ntarget = {log:?}\n",);
    std::fs::write(&config, text).unwrap();
    let mut started = Started::first_with(&["--config", config.to_str().unwrap()]);
    let running = &mut started.running;
    let says = |running: &crate::process::Running, line: &str| {
        wait_for(line, || running.stderr().contains(line).then_some(()));
    };
    let server = running.dns();
    running.api_address();

    dns::udp(server, "first.example.", A);
    logged(&log, "first.example.");
    std::fs::rename(&log, &moved).unwrap();
    std::fs::write(&secrets, "ffeeddccbbaa99887766554433221100\n00112233445566778899aabbccddeeff\n").unwrap();
    running.signal("HUP");
    says(running, "the cookie secrets have changed");
    wait_for("a new file", || log.exists().then_some(()));
    dns::tcp(server, "second.example.", A);
    logged(&log, "second.example.");

    // What is wrong changes nothing, and ends nothing.
    std::fs::write(&secrets, "nonsense\n").unwrap();
    running.signal("HUP");
    says(running, "the cookie secrets stay as they are");
    dns::udp(server, "third.example.", A);
    logged(&log, "third.example.");
    assert!(running.stop().success());
    let text = std::fs::read_to_string(&moved).unwrap();
    assert!(text.contains("first.example.") && !text.contains("second.example."), "{text}");
}
