//! `godwit audit`: straight from the database, so also while the API is down, and whatever the API would say.

use godwit_controlplane::audit::{Report, verify};

use super::progress::Progress;
use crate::cli::Audit;
use crate::output::{Output, Said, Wrong, say};
use crate::run::config::Config;

/// Checks the audit log.
pub(crate) fn main(Audit::Verify { anchors, place }: Audit, output: Output) -> anyhow::Result<()> {
    let (store, file) = Config::audit(place.config, place.data).map_err(|error| Wrong(error.to_string()))?;
    let files = match anchors {
        named if !named.is_empty() => named,
        _ if file.exists() => vec![file],
        _ => Vec::new(),
    };
    if files.is_empty() {
        say("there are no anchors: that the end of the log was cut off would not be seen");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut bar = None;
    let mut told = 0;
    let progress = |done: u64, all: u64| {
        bar.get_or_insert_with(|| Progress::new("audit log: rows", all)).add(done.saturating_sub(told));
        told = done;
    };
    let report = runtime.block_on(verify(&store, &files, progress))?;
    drop(bar);
    print(&report, output)?;
    if report.whole { Ok(()) } else { Err(Said.into()) }
}

fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    output.result(report, |out| {
        let Report { checked, number, hash, begins_behind, unchained, unchained_for_s, .. } = report;
        match &report.wrong {
            None => writeln!(out, "whole: {checked} rows, the last is {number}, {hash}")?,
            Some(wrong) => writeln!(out, "NOT AS IT WAS WRITTEN: {wrong} ({checked} rows before that are)")?,
        }
        if *begins_behind > 0 {
            writeln!(out, "begins behind row {begins_behind}: those before were past their time")?;
        }
        if *unchained > 0 {
            writeln!(out, "not chained yet: {unchained} rows, the first for {unchained_for_s} s")?;
        }
        writeln!(out, "anchors: {} compared", report.anchors)?;
        if report.no_anchors > 0 {
            writeln!(out, "lines that are no anchors: {}", report.no_anchors)?;
        }
        Ok(())
    })
}
