//! Upgrades and reloads while zones change, honest clients ask and hostile ones interfere (threat-model R16, R1); see
//! [`traffic`](super::traffic) for what must not happen.

use super::handover::processes;
use super::process::{command, dig, send_signal};
use super::reflector::eventually;
use super::sandbox::kernel_has_landlock;
use super::traffic::{Serving, served, under_fire};

const UPGRADES: u64 = 20;

#[test]
fn p1_upgrades_and_reloads_under_fire_lose_nothing_and_never_go_back() {
    let mut serving = Serving::start(&mut command());
    let address = serving.address();
    let mut version = 1;
    under_fire(address, || {
        let mut current = serving.process.child.id();
        for round in 0..UPGRADES {
            // One reload by itself, and one beside the upgrade.
            version += 1;
            serving.publish(version);
            send_signal(current, "HUP");
            eventually("the new version is served", || served(address) == version);
            // The zone changes beside the upgrade: the successor may read either, and is told to reload before, in the
            // middle, or after.
            version += 1;
            match round % 3 {
                0 => {
                    send_signal(current, "USR2");
                    serving.publish(version);
                    send_signal(current, "HUP");
                }
                1 => {
                    serving.publish(version);
                    send_signal(current, "HUP");
                    send_signal(current, "USR2");
                }
                _ => {
                    serving.publish(version);
                    // Twice at once: one successor.
                    send_signal(current, "USR2");
                    send_signal(current, "USR2");
                }
            }
            if round == 0 {
                assert!(serving.process.wait().success());
            }
            current = serving.taken_over(current);
            eventually("the successor serves the newest version", || served(address) == version);
        }
    });
    assert_eq!(version, 1 + UPGRADES * 2);
    // Sockets that were handed on, metrics too, still work.
    assert_eq!(dig(address, &["+short", "+tcp", "ns1.example.org"]), "192.0.2.1\n");
    assert_eq!(serving.process.get("/ready").0, 200);
    // All of that from within the sandbox.
    assert!(serving.process.metric("godwit_dataplane_denied_calls_total") < 0.5, "{}", serving.process.log());
}

#[test]
fn p1_what_is_wrong_on_reload_or_upgrade_leaves_the_old_in_place() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("dataplane.toml");
    let state = place.path().join("state");
    let right = format!("[server]\nstate = \"{}\"\n", state.display());
    std::fs::write(&file, &right).unwrap();
    let mut serving = Serving::start(command().arg("--config").arg(&file));
    let (address, id) = (serving.address(), serving.process.child.id());
    let failures = |serving: &Serving| serving.process.log().matches("handover failed").count();
    let refused = |serving: &Serving, version: u64| {
        let before = failures(serving);
        serving.process.signal("USR2");
        eventually("the handover fails", || failures(serving) == before + 1);
        assert_eq!((processes(&serving.marker), served(address)), (vec![id], version));
    };
    under_fire(address, || {
        // The local snapshot has version 1 or 2, by when it was written last.
        eventually("there is a local snapshot", || state.join("current.snapshot").exists());
        serving.publish(2);
        serving.process.signal("HUP");
        eventually("the new version is served", || served(address) == 2);
        // A zone that does not read: kept on reload, and no successor that would not have it, or have the snapshot's.
        let zone_file = serving.folder.path().join("example.org.zone");
        let zone_text = std::fs::read_to_string(&zone_file).unwrap();
        std::fs::write(&zone_file, zone_text.replace("www IN A", "www IN NONSENSE")).unwrap();
        serving.process.signal("HUP");
        eventually("it is shown", || serving.process.metric("godwit_dataplane_failed_zones") > 0.5);
        assert_eq!(served(address), 2);
        refused(&serving, 2);
        std::fs::remove_file(&zone_file).unwrap();
        std::os::unix::fs::symlink("/nonexistent", &zone_file).unwrap();
        refused(&serving, 2);
        std::fs::remove_file(&zone_file).unwrap();
        std::fs::write(&zone_file, &zone_text).unwrap();
        // A configuration that does not read, one that asks for what is not there, and one for what its predecessor closed.
        let mut wrongs = vec!["[tcp]\nidle_timout_ms = 1\n", "[cookies]\nsecrets_file = \"/nonexistent\"\n"];
        if kernel_has_landlock() {
            wrongs.push("[sandbox]\nwrite = [\"/var/tmp\"]\n");
        }
        for wrong in wrongs {
            std::fs::write(&file, format!("{right}{wrong}")).unwrap();
            refused(&serving, 2);
        }
        std::fs::write(&file, &right).unwrap();
        // With everything mended, the upgrade is made.
        serving.publish(3);
        serving.process.signal("USR2");
        assert!(serving.process.wait().success());
        serving.taken_over(id);
        assert_eq!(served(address), 3);
    });
    assert!(serving.process.log().contains("idle_timout_ms"), "{}", serving.process.log());
}
