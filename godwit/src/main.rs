//! `godwit`: both planes in one command, and the command line for people. Arguments → one of `run/` and `commands/`.
//!
//! What a command has to say goes to standard output, everything else to standard error. Exit code 0: done; 1: it
//! failed; 2: a wrong flag or configuration.

mod cli;
mod client;
mod commands;
mod output;
mod run;

use std::process::ExitCode;

use clap::Parser;

use cli::{Arguments, Command};
use output::Output;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output { json: arguments.json };
    let result = match arguments.command {
        Command::Run(arguments) => run::main(arguments),
        Command::Zone(command) => commands::zone::main(command, output),
        Command::Import(import) => commands::import::main(&import, output),
        Command::Export(export) => commands::export::main(&export, output),
        Command::Record(command) => commands::record::main(command, output),
        Command::Token(command) => commands::token::main(command, output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.failed(&error),
    }
}
