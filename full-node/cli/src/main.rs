//! `nesa`: the full node and its tools.

mod client;
mod commands;
mod failure;
mod files;
mod http;
mod keyfile;
mod local;
mod logging;
mod node;
mod output;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Private, verified inference over a network of strangers.
///
/// `nesa up` starts a whole network on this machine and prints the address of its playground.
/// `nesa query` asks a network a question: the text is split so that neither of two nodes alone can
/// read it, and every product they return is checked here.
#[derive(Debug, Parser)]
#[command(name = "nesa", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
Environment:
  NESA_HOME  where keys, caches and local networks live (default: ~/.nesa)
  NESA_LOG   log filter, for example info,nesa_consensus=debug

Exit codes:
  0 done   1 the answer is no   2 wrong usage   3 nothing answers   4 in use by another process

Start here:
  nesa up
  nesa query embed --text 'hello'        (in a second terminal)")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(commands::up::Up),
    Node(commands::node::Node),
    Keys(commands::keys::Keys),
    Status(commands::status::Status),
    Query(Box<commands::query::Query>),
    Receipt(commands::receipt::Receipt),
    Model(commands::model::Model),
    Float(commands::float::Float),
    Faucet(commands::faucet::Faucet),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Up(_) | Command::Node(_)) {
        logging::start("error", logging::LogFormat::Text);
    }
    let (json, result) = match cli.command {
        Command::Up(command) => (false, command.run()),
        Command::Node(command) => (false, command.run()),
        Command::Keys(command) => (command.json(), command.run()),
        Command::Status(command) => (command.json(), command.run()),
        Command::Query(command) => (command.json(), command.run()),
        Command::Receipt(command) => (command.json(), command.run()),
        Command::Model(command) => (command.json(), command.run()),
        Command::Float(command) => (command.json(), command.run()),
        Command::Faucet(command) => (command.json(), command.run()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            failure::report(&error, json);
            ExitCode::from(failure::code(&error) as u8)
        }
    }
}
