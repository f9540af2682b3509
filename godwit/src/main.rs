//! `godwit`: both planes in one command, and the command line for people. Arguments → one of `run/` and `commands/`.
//!
//! What a command has to say goes to standard output, everything else to standard error. Exit code 0: done; 1: it
//! failed; 2: a wrong flag or configuration.

mod cli;
mod client;
mod commands;
mod output;
mod run;
mod signing;

use std::process::ExitCode;

use clap::Parser;
use godwit_controlplane::egress;
use godwit_controlplane::relay::shadow;
use serde_json::json;

use cli::{Arguments, Command};
use output::{Output, say};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return wrong_usage(&error),
    };
    if let Command::Shadow { memory_octets } = arguments.command {
        return shadow::child::main(memory_octets);
    }
    if let Command::Egress = arguments.command {
        return egress::child::main();
    }
    let output = Output { json: arguments.json };
    let result = match arguments.command {
        Command::Run(arguments) => run::main(arguments),
        Command::Zone(command) => commands::zone::main(command, output),
        Command::Import(import) => commands::import::main(&import, output),
        Command::Export(export) => commands::export::main(&export, output),
        Command::Record(command) => commands::record::main(command, output),
        Command::Rollback(arguments) => commands::rollback::all(&arguments, output),
        Command::Node(command) => commands::node::main(command, output),
        Command::User(command) => commands::user::main(command, output),
        Command::Key(command) => commands::key::main(command, output),
        Command::Keys(command) => commands::keys::main(command, output),
        Command::Backup(command) => commands::backup::main(command, output),
        Command::Audit(command) => commands::audit::main(command, output),
        Command::Token(command) => commands::token::main(command, output),
        // Not reached: see above.
        Command::Shadow { .. } | Command::Egress => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.failed(&error),
    }
}

/// What clap says about the command line, help and version included; as JSON where that was asked for.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json");
    if !(wants_json && error.use_stderr()) {
        error.exit();
    }
    let text = error.render().to_string();
    // The first paragraph: what is wrong. How it is done right is in --help.
    let reason = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    say(json!({ "error": reason, "code": "WRONG_USAGE", "request_id": null }));
    ExitCode::from(2)
}
