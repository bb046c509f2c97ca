//! The commands.

mod containers;
mod files;
mod lists;
mod maintenance;
mod operations;
mod quota;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::client::Client;
use crate::settings::Settings;
use crate::show;

/// What commands need.
struct Context {
    /// The cluster.
    client: Client,
    /// Whether JSON is wanted.
    json: bool,
    /// Who this is, if anybody.
    principal: Option<String>,
}

/// Does what was asked; the exit code.
///
/// # Errors
/// When it can't be done.
pub async fn run(cli: Cli) -> Result<u8> {
    let settings = Settings::load(&cli.global)?;
    if matches!(cli.command, Command::Config) {
        config(&settings, cli.global.json)?;
        return Ok(0);
    }
    let context = Context {
        client: Client::connect(&settings).await?,
        json: cli.global.json,
        principal: settings.credential.map(|(principal, _)| principal),
    };
    match cli.command {
        Command::Agents => lists::agents(&context).await?,
        Command::Frameworks { all } => lists::frameworks(&context, all).await?,
        Command::Tasks { all, framework } => {
            lists::tasks(&context, all, framework.as_deref()).await?
        }
        Command::State => lists::state(&context).await?,
        Command::Weights { weights } => lists::weights(&context, &weights).await?,
        Command::Logs { task, file, follow, lines } => {
            files::logs(&context, &task, &file, follow, lines).await?;
        }
        Command::Ls { task, path } => files::list(&context, &task, &path).await?,
        Command::Cp { source, target } => files::copy(&context, &source, &target).await?,
        Command::Exec { interactive, tty, task, command } => {
            return containers::exec(&context, &task, command, interactive, tty).await;
        }
        Command::Attach { interactive, task } => {
            containers::attach(&context, &task, interactive).await?;
        }
        Command::Quota { command } => quota::run(&context, command).await?,
        Command::Reserve(reservation) => operations::reserve(&context, reservation).await?,
        Command::Unreserve(reservation) => operations::unreserve(&context, reservation).await?,
        Command::Volumes { command } => operations::volumes(&context, command).await?,
        Command::Maintenance { command } => maintenance::run(&context, command).await?,
        Command::Drain { agent, max_grace_period, mark_gone } => {
            maintenance::drain(&context, &agent, max_grace_period.as_deref(), mark_gone).await?;
        }
        Command::Deactivate { agent } => maintenance::deactivate(&context, &agent).await?,
        Command::Reactivate { agent } => maintenance::reactivate(&context, &agent).await?,
        Command::Gone { agent } => maintenance::gone(&context, agent).await?,
        Command::Teardown { framework } => operations::teardown(&context, framework).await?,
        // Answered before there was a cluster.
        Command::Config | Command::Completions { .. } | Command::Man => {}
    }
    Ok(0)
}

fn config(settings: &Settings, json: bool) -> Result<()> {
    let principal = settings.credential.as_ref().map(|(principal, _)| principal.as_str());
    let file = settings.config.as_ref().map(|path| path.display().to_string());
    if json {
        return show::value(&serde_json::json!({
            "master": settings.master, "config": file, "principal": principal,
        }));
    }
    show::table(
        &["SETTING", "VALUE"],
        &[
            vec![
                "master".to_owned(),
                format!("{} (said by {})", settings.master, settings.said_by),
            ],
            vec!["config".to_owned(), file.unwrap_or_else(|| "none".to_owned())],
            vec!["principal".to_owned(), principal.unwrap_or("none").to_owned()],
        ],
    )
}
