//! The API with TLS, and the command line that asks it.

use rcgen::{CertificateParams, KeyPair};

use crate::process::{Running, godwit, output, wait_for};

/// A certificate for this machine that nobody else has signed, and its key, in a folder.
fn renew(folder: &std::path::Path) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("certificate.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
}

#[test]
fn the_command_line_speaks_tls_with_who_it_knows() {
    let folder = tempfile::tempdir().unwrap();
    renew(folder.path());
    let [certificate, key] =
        ["certificate.pem", "key.pem"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let settings =
        [("GODWIT_API__TLS_CERTIFICATE", certificate.as_str()), ("GODWIT_API__TLS_KEY", key.as_str())];
    let mut running = Running::launch_in(&folder.path().join("data"), &[], &settings);
    let token = running.token();
    let port = wait_for("the API's address", || {
        let text = running.stderr();
        let (_, rest) = text.split_once("godwit: API at https://127.0.0.1:")?;
        Some(rest.split_once(' ')?.0.to_owned())
    });
    let ask = |host: &str, authorities: Option<&str>| {
        let mut command = godwit();
        command.args(["zone", "list", "--url", &format!("{host}:{port}")]).env("GODWIT_TOKEN", &token);
        if let Some(file) = authorities {
            command.args(["--ca", file]);
        }
        let ended = output(&mut command);
        let [out, err] = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap());
        (ended.status.code(), out, err)
    };
    for host in ["https://localhost", "https://127.0.0.1"] {
        let (code, out, err) = ask(host, Some(&certificate));
        assert!(code == Some(0) && out.contains("example.com."), "{host}: {out}{err}");
    }
    // The system knows nobody who has signed it.
    let (code, _, err) = ask("https://localhost", None);
    assert!(code == Some(1) && err.contains("--ca"), "{err}");
    let (code, _, err) = ask("https://localhost", Some(&key));
    assert!(code == Some(2) && err.contains("expected certificates in PEM"), "{err}");
    let (code, _, err) = ask("http://localhost", None);
    assert_eq!(code, Some(1), "{err}");
    // Another one, without a restart: who it was is not believed any more.
    let before = folder.path().join("before.pem");
    std::fs::copy(&certificate, &before).unwrap();
    renew(folder.path());
    wait_for("another certificate", || {
        let (code, ..) = ask("https://localhost", Some(&certificate));
        (code == Some(0)).then_some(())
    });
    let (code, ..) = ask("https://localhost", before.to_str());
    assert_eq!(code, Some(1));
    // At SIGHUP it is said each time what is wrong; by who looks now and then, once.
    std::fs::write(&key, "planted").unwrap();
    let said = || running.stderr().matches("the certificate of the API cannot be changed").count();
    for times in 1..=4 {
        running.signal("HUP");
        wait_for("what is wrong", || (said() >= times).then_some(()));
    }
    assert!(running.stop().success());
}
