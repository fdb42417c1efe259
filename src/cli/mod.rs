//! The command line: one file per command.
//!
//! Exit codes: 0 done, 1 it failed, 2 the arguments or the configuration are wrong.

mod backup;
mod bench;
mod client;
mod config;
mod emit;
mod hooks;
mod rerun;
mod resources;
mod restore;
mod run;
mod serve;
mod verify;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Error as ConfigError, Loaded};

#[derive(Parser)]
#[command(name = "tripline", version, about = "An event crosses the line, a script fires")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve events and the API (the default)
    Serve(ServeArgs),
    /// Publish an event
    Emit(emit::EmitArgs),
    /// Run a script on an event, here and without a server
    Run(run::RunArgs),
    /// Run a recorded run again, and say whether it is the same
    Rerun(rerun::RerunArgs),
    /// Compile scripts and say what is wrong with them
    Check(run::CheckArgs),
    /// Print the declarations of what scripts find (sdk.d.ts)
    Types,
    /// Scripts of a server
    Scripts(resources::Scripts),
    /// Subscriptions of a server
    Subscriptions(resources::Subscriptions),
    /// Events of a server
    Events(resources::Events),
    /// Runs of a server
    Runs(resources::Runs),
    /// Dead letters of a server
    DeadLetters(resources::DeadLetters),
    /// Keys of scripts (sdk.kv) on a server
    Kv(resources::Kv),
    /// Secrets of scripts on a server
    Secrets(resources::Secrets),
    /// Inbound webhooks of a server
    Hooks(hooks::Hooks),
    /// Tokens of a server
    Tokens(resources::Tokens),
    /// Copy the store of a running server into a file
    Backup(backup::BackupArgs),
    /// Make a backup the store of a stopped server
    Restore(restore::RestoreArgs),
    /// Say whether the store of a stopped server is whole
    Verify(verify::VerifyArgs),
    /// Measure a running server
    Bench(bench::BenchArgs),
    /// Check or show the configuration
    Config(config::ConfigArgs),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
}

/// Settings that flags override.
#[derive(Args, Clone, Default)]
struct ServeArgs {
    /// Configuration file [default: ./tripline.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the SQLite store and the admin token [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to serve on [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

impl ServeArgs {
    /// The configuration that these flags, the environment and the file make together.
    fn load(&self) -> Result<Loaded, ConfigError> {
        let mut flags = Vec::new();
        if let Some(dir) = &self.data {
            let dir = dir.display().to_string();
            flags.push(("storage.data", "--data", dir));
        }
        if let Some(listen) = self.listen {
            flags.push(("server.listen", "--listen", listen.to_string()));
        }
        crate::config::load_for_process(self.config.as_deref(), &flags)
    }
}

/// Runs the command of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Emit(args)) => emit::run(&args),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Rerun(args)) => rerun::run(&args),
        Some(Command::Check(args)) => run::check(&args),
        Some(Command::Types) => {
            print!("{}", crate::sandbox::SDK_TYPES);
            Ok(())
        }
        Some(Command::Scripts(args)) => resources::scripts(&args),
        Some(Command::Subscriptions(args)) => resources::subscriptions(&args),
        Some(Command::Events(args)) => resources::events(&args),
        Some(Command::Runs(args)) => resources::runs(&args),
        Some(Command::DeadLetters(args)) => resources::dead_letters(&args),
        Some(Command::Kv(args)) => resources::kv(&args),
        Some(Command::Secrets(args)) => resources::secrets(&args),
        Some(Command::Hooks(args)) => hooks::run(&args),
        Some(Command::Tokens(args)) => resources::tokens(&args),
        Some(Command::Backup(args)) => backup::run(&args),
        Some(Command::Restore(args)) => restore::run(&args),
        Some(Command::Verify(args)) => verify::run(&args),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Config(args)) => config::run(&args),
        Some(Command::Completions { shell }) => {
            clap_complete::generate(shell, &mut Cli::command(), "tripline", &mut std::io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tripline: {error:#}");
            let is_usage = error.downcast_ref::<ConfigError>().is_some();
            ExitCode::from(if is_usage { 2 } else { 1 })
        }
    }
}
