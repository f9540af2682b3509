//! The network of the spoof rig: attacker, server and victim, each in a network namespace of its own. The attacker has the victim's
//! addresses too, so that an ordinary socket sends with a forged source; nothing checks return paths. Nothing leaves these
//! namespaces: they have no way out.
//!
//! ```text
//! attacker 198.18.1.2 ─── 198.18.1.1 server 198.18.2.1 ─── 198.18.2.2 victim
//!   lo: 198.18.2.2
//! ```

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

/// Where the server listens.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
/// An address of the attacker's own.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
/// The victim's.
pub const VICTIM: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 2);

/// How all names of namespaces begin, before the process that made them.
const PREFIX: &str = "godwit-";
const PARTS: [&str; 3] = ["attacker", "server", "victim"];

/// Who is where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Sends.
    Attacker,
    /// Answers.
    Server,
    /// Receives what it did not ask for.
    Victim,
}

/// The three namespaces. Dropping it removes them and all that is in them.
#[derive(Debug)]
pub struct Namespaces {
    own: File,
    names: [String; 3],
}

/// While it lives, sockets and processes made by this thread are in the namespace.
#[derive(Debug)]
pub struct Inside<'a>(&'a File);

impl Namespaces {
    /// Makes them.
    ///
    /// # Errors
    /// Not root, or `ip` (iproute2) is missing or refuses.
    pub fn make() -> Result<Self> {
        remove_orphans();
        let own = File::open("/proc/thread-self/ns/net").context("opening the own network namespace")?;
        let names = PARTS.map(|part| format!("{PREFIX}{}-{part}", std::process::id()));
        // From here on dropping removes what is there.
        let made = Namespaces { own, names };
        for name in &made.names {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        made.connect(Place::Attacker, "198.18.1")?;
        made.connect(Place::Victim, "198.18.2")?;
        let (attacker, server, victim) =
            (made.name(Place::Attacker), made.name(Place::Server), made.name(Place::Victim));
        ip(&["-n", attacker, "address", "add", &format!("{VICTIM}/32"), "dev", "lo"])?;
        ip(&["-n", victim, "route", "add", "198.18.1.0/24", "via", "198.18.2.1"])?;
        let inside = made.enter(Place::Server)?;
        for interface in ["all", "default", "to-attacker", "to-victim"] {
            let setting = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
            fs::write(&setting, "0").with_context(|| format!("writing {setting} in {server}"))?;
        }
        drop(inside);
        Ok(made)
    }

    fn connect(&self, place: Place, network: &str) -> Result<()> {
        let (end, server) = (self.name(place), self.name(Place::Server));
        let to_end = if place == Place::Attacker { "to-attacker" } else { "to-victim" };
        let peer = ["peer", "name", "to-server", "netns", end];
        ip(&[&["-n", server, "link", "add", to_end, "type", "veth"][..], &peer].concat())?;
        for (name, interface, host) in [(server, to_end, 1), (end, "to-server", 2)] {
            ip(&["-n", name, "address", "add", &format!("{network}.{host}/24"), "dev", interface])?;
            ip(&["-n", name, "link", "set", interface, "up"])?;
        }
        Ok(())
    }

    fn name(&self, place: Place) -> &str {
        &self.names[place as usize]
    }

    /// Takes this thread into a namespace until the value is dropped.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn enter(&self, place: Place) -> Result<Inside<'_>> {
        let path = format!("/run/netns/{}", self.name(place));
        let namespace = File::open(&path).with_context(|| format!("opening {path}"))?;
        setns(&namespace, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {path}"))?;
        Ok(Inside(&self.own))
    }

    /// Octets and packets that have arrived at the victim so far, Ethernet headers included.
    ///
    /// # Errors
    /// `ip` does not say.
    pub fn arrived(&self) -> Result<(u64, u64)> {
        let output = Command::new("ip")
            .args(["-n", self.name(Place::Victim), "-s", "-j", "link", "show", "dev", "to-server"])
            .output()
            .context("running ip")?;
        let links: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("reading what ip says")?;
        let count = |what: &str| links[0]["stats64"]["rx"][what].as_u64().context("no such count of ip");
        Ok((count("bytes")?, count("packets")?))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Going on in the wrong namespace would be worse than not going on.
        setns(self.0, CloneFlags::CLONE_NEWNET).expect("the own network namespace is held open");
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in self.names.iter().filter(|name| Path::new("/run/netns").join(name).exists()) {
            if let Err(error) = ip(&["netns", "delete", name]) {
                eprintln!("{name} could not be removed: {error:#}");
            }
        }
    }
}

/// Removes what a run left that was killed.
fn remove_orphans() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        let dead = maker.is_some_and(|(pid, part)| {
            PARTS.contains(&part) && pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
        });
        if dead {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().context("running ip (package iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "ip {}: {}", args.join(" "), said.trim());
    Ok(())
}
