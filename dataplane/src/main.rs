//! `godwit-dataplane`: arguments → configuration → run.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use godwit_dataplane::config::cli::Arguments;
use godwit_dataplane::config::{Layers, load};
use godwit_dataplane::observe::log;
use godwit_dataplane::{Shutdown, run};
use godwit_wire::presentation::Printable;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A wrong flag or configuration.
const WRONG_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let check_config = arguments.check_config;
    let config = match load(Layers::of_process(arguments)) {
        Ok(config) => config,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(WRONG_CONFIGURATION);
        }
    };
    if check_config {
        // Who reads may have seen enough.
        let _ = writeln!(std::io::stdout(), "{}", config.to_text());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = log::start(&config.log) {
        complain(&format!("{error:#}"));
        return ExitCode::from(WRONG_CONFIGURATION);
    }
    match run(config, &Shutdown::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Errors quote what they are about, which somebody else may have written.
fn complain(error: &str) {
    eprintln!("godwit-dataplane: {}", Printable(error));
}
