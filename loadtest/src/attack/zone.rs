//! The zone that an attacker would like: long answers to short questions, signed with NSEC3 as RFC 9276 wants it. Every server
//! gets the same file.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::data::files::ZoneFile;

/// Its apex.
pub const APEX: &str = "amp.test.";
/// The TXT RRset whose answer fits no datagram: what connections ask that never read.
pub const LONG: &str = "long.amp.test.";
/// The signing: two keys of the size and kind that most zones have.
const ALGORITHM: [&str; 4] = ["-a", "RSASHA256", "-b", "2048"];

/// Writes the zone and signs it.
///
/// # Errors
/// `ldns-keygen` or `ldns-signzone` is missing or fails, or a file cannot be written.
pub fn make(folder: &Path) -> Result<ZoneFile> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    fs::write(folder.join("unsigned"), text())?;
    let run = |program: &str, args: &[&str]| -> Result<String> {
        let output = Command::new(program)
            .args(args)
            .current_dir(&folder)
            .output()
            .with_context(|| format!("running {program} (package ldnsutils)"))?;
        anyhow::ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let mut keys = Vec::new();
    for kind in [&["-k"][..], &[]] {
        let args = [kind, &ALGORITHM, &["-r", "/dev/urandom", APEX]].concat();
        keys.push(run("ldns-keygen", &args)?);
    }
    // NSEC3 without salt and further iterations (RFC 9276 §3.1).
    let args = ["-n", "-t", "0", "-o", APEX, "-f", "signed", "unsigned", &keys[0], &keys[1]];
    run("ldns-signzone", &args)?;
    Ok(ZoneFile { origin: APEX.to_owned(), path: folder.join("signed"), changes: false, signed: true })
}

/// Every owner name below which something is asked, and one that is not there.
#[must_use]
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = text()
        .lines()
        .filter_map(|line| line.split(' ').next().filter(|owner| !owner.starts_with(['$', '*'])))
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    names.extend(["x.wild", "nothing-here", "below.cut", "b.ent"].map(|name| format!("{name}.{APEX}")));
    names
}

/// The zone before it is signed.
fn text() -> String {
    let mut text =
        format!("$TTL 3600\n{APEX} IN SOA ns1.{APEX} hostmaster.{APEX} 2026 7200 3600 1209600 300\n");
    let mut add = |owner: &str, rdata: &str| {
        let dot = if owner.is_empty() { "" } else { "." };
        let _ = writeln!(text, "{owner}{dot}{APEX} IN {rdata}");
    };
    let both = |add: &mut dyn FnMut(&str, &str), owner: &str, number: usize| {
        add(owner, &format!("A 192.0.2.{number}"));
        add(owner, &format!("AAAA 2001:db8::{number:x}"));
    };
    for number in 1..=4 {
        add("", &format!("NS ns{number}.{APEX}"));
        both(&mut add, &format!("ns{number}"), number);
    }
    both(&mut add, "", 10);
    both(&mut add, "www", 11);
    for number in 1..=5 {
        add("", &format!("MX {number} mail{number}.{APEX}"));
        both(&mut add, &format!("mail{number}"), 20 + number);
    }
    for service in
        ["v=spf1 include:one include:two include:three -all", "site-verification", "domain-key", "owner"]
    {
        add("", &format!("TXT \"{service}={}\"", "k".repeat(64)));
    }
    add("", "CAA 0 issue \"ca.example\"");
    for number in 1..=60 {
        both(&mut add, "many", 100 + number);
    }
    for number in 0..12 {
        add("long", &format!("TXT \"{}\"", char::from(b'a' + number).to_string().repeat(250)));
    }
    for number in 0..4 {
        add("text", &format!("TXT \"{}\"", char::from(b'a' + number).to_string().repeat(220)));
    }
    for number in 1..=20 {
        add("exchanges", &format!("MX {number} mail{}.{APEX}", number % 5 + 1));
        add("services", &format!("SRV 0 {number} 5060 mail{}.{APEX}", number % 5 + 1));
    }
    for number in 1..=13 {
        add("cut", &format!("NS ns{number}.cut.{APEX}"));
        both(&mut add, &format!("ns{number}.cut"), 40 + number);
    }
    for number in 1..=4 {
        add("secure", &format!("NS ns{number}.secure.{APEX}"));
        both(&mut add, &format!("ns{number}.secure"), 60 + number);
    }
    add("secure", &format!("DS 12345 13 2 {}", "ab".repeat(32)));
    add("*.wild", &format!("TXT \"{}\"", "w".repeat(200)));
    for link in 0..8 {
        add(&format!("link{link}"), &format!("CNAME link{}.{APEX}", link + 1));
    }
    add("link8", &format!("CNAME many.{APEX}"));
    add("a.b.ent", "A 192.0.2.99");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_the_zone_or_meant_not_to_be() {
        let names = names();
        assert!(names.len() > 45, "{names:?}");
        assert!(names.iter().all(|name| name.ends_with(APEX)), "{names:?}");
        assert!(names.contains(&LONG.to_owned()));
    }
}
