//! What every run leaves: tables for people as Markdown, all figures for programs as JSON, and the way of the tables into a page
//! of the documentation. The tables themselves are made beside the runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cpu;

/// All of a run: what was asked for, what was found.
#[derive(Debug, Serialize)]
pub struct Report<O, R> {
    /// Where its tables go in a page.
    pub mark: &'static str,
    /// What it ran on.
    pub machine: String,
    /// What was asked for.
    pub options: O,
    /// What was found.
    pub results: R,
    /// What makes the run fail.
    pub failures: Vec<String>,
    /// The tables.
    pub markdown: String,
}

impl<O, R> Report<O, R> {
    /// Of a run on this machine.
    #[must_use]
    pub fn new(mark: &'static str, options: O, results: R, failures: Vec<String>, markdown: String) -> Self {
        Report { mark, machine: machine(), options, results, failures, markdown }
    }
}

/// Median, least and greatest of some figures.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The middle one, or between the two middle ones.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub most: f64,
}

impl Spread {
    /// Of some figures; nothing of none.
    #[must_use]
    pub fn of(figures: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let half = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[half - 1], sorted[half])
        } else {
            sorted[half]
        };
        Some(Spread { median, least, most })
    }

    /// `2.03 (2.01–2.10)`.
    #[must_use]
    pub fn show(self, decimals: usize) -> String {
        if self.most > self.least {
            format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", self.median, self.least, self.most)
        } else {
            format!("{:.decimals$}", self.median)
        }
    }
}

/// What the figures were made on.
#[must_use]
pub fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {} CPUs, Linux {}", cpu::model(), cpu::count(), kernel.trim())
}

/// Puts the tables of a finished run between its marks in a Markdown file: `<!-- results -->` to `<!-- /results -->`.
///
/// # Errors
/// A file cannot be read or written, the run had failures, or a mark is missing.
pub fn publish(json: &Path, into: &Path) -> Result<()> {
    let text = fs::read_to_string(json).with_context(|| format!("reading {}", json.display()))?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    let failures = report["failures"].as_array().context("no list of failures in the results")?.len();
    anyhow::ensure!(failures == 0, "the run had {failures} failures: its figures are not for publishing");
    let tables = report["markdown"].as_str().context("no tables in the results")?;
    let mark = report["mark"].as_str().context("no mark in the results")?;
    let page = fs::read_to_string(into).with_context(|| format!("reading {}", into.display()))?;
    let (start, end) = (format!("<!-- {mark} -->"), format!("<!-- /{mark} -->"));
    let (before, rest) =
        page.split_once(&start).with_context(|| format!("no {start} in {}", into.display()))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no {end} in {}", into.display()))?;
    fs::write(into, format!("{before}{start}\n\n{tables}\n{end}{after}"))
        .with_context(|| format!("writing {}", into.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter()).unwrap();
        assert_eq!(spread.show(1), "2.0 (1.0–3.0)");
        assert_eq!(Spread::of([4.0, 2.0].into_iter()).unwrap().show(0), "3 (2–4)");
        assert!(Spread::of(std::iter::empty()).is_none());
    }
}
