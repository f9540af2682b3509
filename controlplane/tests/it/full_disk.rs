//! A disk that is full under the database file: what is said then, that nothing is half-done, and that it passes.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::Client;

/// A program whose data lie on a small file system of its own, gone with it. Killed when dropped.
struct OnSmallDisk {
    child: Child,
    client: Client,
    data: std::path::PathBuf,
}

impl Drop for OnSmallDisk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn on_small_disk(folder: &Path) -> OnSmallDisk {
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=3m none \"$2\" && exec \"$1\" --api 127.0.0.1:0 --metrics off --data \"$2\"")
        .args(["sh", env!("CARGO_BIN_EXE_godwit-controlplane")])
        .arg(folder)
        .env("GODWIT_LOG__FILTER", "off")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (data, mut child) = (Path::new("/proc").join(child.id().to_string()).join("root"), child);
    let line = |prefix: &str, from: &mut dyn std::io::Read| {
        let mut text = Vec::new();
        let mut octet = [0];
        while from.read(&mut octet).unwrap() == 1 && octet != [b'\n'] {
            text.push(octet[0]);
        }
        String::from_utf8(text).unwrap().strip_prefix(prefix).expect(prefix).to_owned()
    };
    let token = line("admin token: ", child.stdout.as_mut().unwrap());
    let address = line("api: http://", child.stderr.as_mut().unwrap()).parse().unwrap();
    let data = data.join(folder.strip_prefix("/").unwrap());
    OnSmallDisk { child, client: Client { address, token }, data }
}

/// The disk fills up under writes: each is on it or refused, and writing goes on when there is room again. Needs root,
/// for a file system of its own.
#[tokio::test]
async fn a_full_disk_refuses_changes_and_loses_none() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = on_small_disk(folder.path());
    let client = &program.client;
    client.json("POST", "/api/v1/domains", &json!({"name": "example.com."})).await.expect(201);
    // What somebody else keeps there, to make room later.
    let filler = program.data.join("filler");
    std::fs::File::create(&filler).unwrap().write_all(&vec![7; 1 << 20]).unwrap();
    let value = vec![format!("\"{}\"", "x".repeat(250)); 1];
    let (mut made, mut refused) = (0, 0);
    for n in 0..400 {
        let values: Vec<String> = (0..40).map(|k| format!("\"{k}\" {}", value[0])).collect();
        let body = json!({"name": format!("n{n}.example.com."), "type": "TXT", "value": values});
        let answer = client.json("POST", "/api/v1/records", &body).await;
        match answer.status.as_u16() {
            201 if refused == 0 => made += 1,
            // A small rest may still fit.
            201 => {}
            _ => {
                let answer = answer.expect(503);
                assert_eq!(answer.code(), "DB_UNAVAILABLE");
                refused += 1;
                let name = format!("/api/v1/records/n{n}.example.com.?type=TXT");
                client.get(&name).await.expect(404);
                if refused == 5 {
                    break;
                }
            }
        }
    }
    assert!(made > 3 && refused == 5, "{made} made, {refused} refused: the disk was never full");
    client.get("/health").await.expect(200);
    for n in 0..made {
        client.get(&format!("/api/v1/records/n{n}.example.com.?type=TXT")).await.expect(200);
    }
    std::fs::remove_file(&filler).unwrap();
    let body = json!({"name": "after.example.com.", "type": "A", "value": ["192.0.2.1"]});
    client.json("POST", "/api/v1/records", &body).await.expect(201);
}
