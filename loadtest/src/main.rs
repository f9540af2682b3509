//! `godwit-loadtest`: the command line of the load generator.

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    match godwit_loadtest::cli::Cli::parse().run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("godwit-loadtest: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
