//! What a running process keeps itself from, looked at from outside, and that all it is for works all the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::process::{Process, ZONE, command, is_root, open_to_all, zone_folder};
use super::reflector::eventually;

fn serving(zones: &Path, more: &[&str]) -> Process {
    let zones = zones.to_str().unwrap();
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "2"];
    arguments.extend_from_slice(&["--zones", zones]);
    arguments.extend_from_slice(more);
    Process::start(&arguments)
}

/// The fields of each thread's status file.
fn threads(process: &Process) -> Vec<String> {
    let tasks = format!("/proc/{}/task", process.child.id());
    let status = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("status")).unwrap()
    };
    std::fs::read_dir(tasks).unwrap().map(status).collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("{name} {status}"))
        .trim()
}

/// Whether the kernel that runs this test has landlock: the list of what is active says so.
pub(crate) fn kernel_has_landlock() -> bool {
    std::fs::read_to_string("/sys/kernel/security/lsm").map_or(true, |list| list.contains("landlock"))
}

fn part(process: &Process, part: &str) -> bool {
    process.metric(&format!("godwit_dataplane_sandbox{{part=\"{part}\"}}")) > 0.5
}

#[test]
fn every_thread_is_confined_and_everything_works() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let state = tempfile::tempdir().unwrap();
    open_to_all(state.path());
    let state = state.path().to_str().unwrap().to_owned();
    let user: &[&str] = if is_root() { &["--user", "nobody"] } else { &[] };
    let mut process = serving(folder.path(), &[user, &["--state", &state]].concat());
    let threads = threads(&process);
    assert!(threads.len() >= 6, "{}", threads.len());
    for status in &threads {
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(status, set), "0000000000000000", "{set}");
        }
        if is_root() {
            assert_eq!(field(status, "CapBnd:"), "0000000000000000");
        }
        assert_eq!(field(status, "NoNewPrivs:"), "1");
        assert_eq!(field(status, "Seccomp:"), "2", "a filter");
    }
    for name in ["capabilities", "no_new_privs", "seccomp", "self_test"] {
        assert!(part(&process, name), "{name}");
    }
    assert_eq!(part(&process, "landlock"), kernel_has_landlock());
    // Answers, over both transports; a zone file exchanged, one added, one included; the local snapshot.
    assert_eq!(process.dig(&["+short", "www.example.org"]), "192.0.2.80\n");
    assert_eq!(process.dig(&["+short", "+tcp", "www.example.org"]), "192.0.2.80\n");
    let included = folder.path().join("more");
    std::fs::create_dir(&included).unwrap();
    std::fs::write(included.join("records"), "more A 192.0.2.7\n").unwrap();
    std::fs::write(folder.path().join("new"), format!("{ZONE}$INCLUDE more/records\n")).unwrap();
    std::fs::rename(folder.path().join("new"), folder.path().join("example.net.zone")).unwrap();
    process.signal("HUP");
    eventually("the new zone is served", || process.dig(&["+short", "more.example.net"]) == "192.0.2.7\n");
    // All of that needed nothing that is denied.
    assert!(process.metric("godwit_dataplane_denied_calls_total") < 0.5, "{}", process.log());
    assert!(process.stop().success());
    assert!(Path::new(&state).join("current.snapshot").exists());
}

/// Who starts it as root and names nobody to become: root it stays, without what makes root mighty.
#[test]
fn root_without_a_user_to_become_keeps_no_capability() {
    if !is_root() {
        eprintln!("skipped: whoever is not root has none to give up");
        return;
    }
    let folder = zone_folder(&[("example.org", ZONE)]);
    let process = serving(folder.path(), &[]);
    for status in &threads(&process) {
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(status, set), "0000000000000000", "{set}");
        }
    }
    assert_eq!(process.dig(&["+short", "www.example.org"]), "192.0.2.80\n");
}

#[test]
fn a_file_outside_of_the_folders_named_at_the_start_stays_closed() {
    if !kernel_has_landlock() {
        eprintln!("this kernel has no landlock: there is nothing to see");
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    open_to_all(outside.path());
    let elsewhere = outside.path().join("elsewhere");
    std::fs::write(&elsewhere, ZONE.replace("192.0.2.80", "192.0.2.99")).unwrap();
    let folder = zone_folder(&[("example.org", ZONE)]);
    let process = serving(folder.path(), &[]);
    let zone = folder.path().join("example.org.zone");
    std::fs::remove_file(&zone).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &zone).unwrap();
    process.signal("HUP");
    eventually("the file is reported", || process.metric("godwit_dataplane_failed_zones") > 0.5);
    assert_eq!(process.dig(&["+short", "www.example.org"]), "192.0.2.80\n", "the last good state");
    let log = process.log();
    assert!(
        log.contains("Permission denied") && log.contains("sandbox.read names folders to keep open"),
        "{log}"
    );
    drop(process);
    // Named at the start, it is open.
    let open = outside.path().to_str().unwrap().to_owned();
    std::fs::remove_file(&zone).unwrap();
    std::fs::write(&zone, ZONE).unwrap();
    let mut command = command();
    command.args(["--listen", "127.0.0.1:0", "--metrics", "off", "--zones", folder.path().to_str().unwrap()]);
    let process = Process::spawn(command.env("GODWIT_SANDBOX__READ", open));
    std::fs::remove_file(&zone).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &zone).unwrap();
    process.signal("HUP");
    eventually("it is read", || process.dig(&["+short", "www.example.org"]) == "192.0.2.99\n");
}

#[test]
fn parts_can_be_left_out_and_required() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let zones = folder.path().to_str().unwrap();
    let with = |name: &str, value: &str| {
        let mut command = command();
        command.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--zones", zones]);
        Process::spawn(command.env(name, value))
    };
    let process = with("GODWIT_SANDBOX__SECCOMP", "false");
    assert!(!part(&process, "seccomp") && part(&process, "self_test"));
    assert_eq!(part(&process, "landlock"), kernel_has_landlock());
    assert!(threads(&process).iter().all(|status| field(status, "Seccomp:") == "0"));
    drop(process);
    let process = with("GODWIT_SANDBOX__MODE", "off");
    assert!(["landlock", "seccomp", "self_test"].iter().all(|name| !part(&process, name)));
    assert!(process.log().contains("the sandbox is off"), "{}", process.log());
    drop(process);
    // Required and left out is a contradiction that is seen.
    let output = command()
        .args(["--listen", "127.0.0.1:0", "--metrics", "off", "--zones", zones])
        .env("GODWIT_SANDBOX__MODE", "required")
        .env("GODWIT_SANDBOX__READ", "/nonexistent/folder")
        .arg("--check-config")
        .output()
        .unwrap();
    assert!(output.status.success(), "a folder that is not there is for the log of the start");
    if kernel_has_landlock() {
        let process = with("GODWIT_SANDBOX__MODE", "required");
        assert!(["landlock", "seccomp", "self_test"].iter().all(|name| part(&process, name)));
    }
}

/// Starts on a kernel that answers this system call as one does that has never heard of it.
fn without<T: Send>(call: i64, start: impl FnOnce() -> T + Send) -> T {
    let processor = std::env::consts::ARCH.try_into().unwrap();
    let (lacks, others) = (SeccompAction::Errno(libc::ENOSYS.unsigned_abs()), SeccompAction::Allow);
    let filter = SeccompFilter::new(BTreeMap::from([(call, Vec::new())]), others, lacks, processor);
    let filter = BpfProgram::try_from(filter.unwrap()).unwrap();
    // A filter is of the thread that installs it, and of the processes that it starts.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            seccompiler::apply_filter(&filter).unwrap();
            start()
        });
        thread.join().unwrap()
    })
}

/// What a program says that does not go on.
fn ended(command: &mut Command) -> Output {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// Best effort: what the kernel lacks is said at the start and shown, and the rest is in effect and was tried; where all of it
/// is required, the process does not serve.
#[test]
fn what_the_kernel_lacks_is_said_and_shown_and_may_be_refused() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let command = || {
        let mut command = command();
        command.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "1", "--zones"]);
        command.arg(folder.path());
        command
    };
    for (lacks, call) in [("landlock", libc::SYS_landlock_create_ruleset), ("seccomp", libc::SYS_seccomp)] {
        let process = without(call, || Process::spawn(&mut command()));
        assert_eq!(process.dig(&["+short", "www.example.org"]), "192.0.2.80\n", "without {lacks}");
        for name in ["capabilities", "no_new_privs", "landlock", "seccomp", "self_test"] {
            let expected = name != lacks && (name != "landlock" || kernel_has_landlock());
            assert_eq!(part(&process, name), expected, "{name} without {lacks}");
        }
        let log = process.log();
        assert!(log.contains("the sandbox has holes") && log.contains("the kernel has none"), "{log}");
        drop(process);

        let mut required = command();
        required.env("GODWIT_SANDBOX__MODE", "required");
        let output = without(call, || ended(&mut required));
        let (said, error) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(1), "without {lacks}: {error}");
        assert!(
            error.contains("required") && error.contains(&format!("{lacks}: the kernel has none")),
            "{error}"
        );
        assert!(!said.contains("serving"), "{said}");
    }
}
