//! What the commands ask the server. Each takes its words, prints as the original does, and gives the value that `--json`
//! prints.

mod acls;
mod ensemble;
mod quotas;
mod read;
mod tree;
mod watch;
mod write;

use serde_json::Value;
use zookeeper_client::Client;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::{Command, Parsed};
use crate::watches::Watches;

/// What came of a command.
pub type Outcome = Result<Value, Failure>;

/// What a command works with.
pub(crate) struct Context {
    client: Client,
    watches: Watches,
    output: Output,
    parsed: Parsed,
}

/// Executes a command that needs the session.
///
/// # Errors
/// Why it failed.
pub async fn execute(
    session: &mut Session,
    command: &'static Command,
    words: &[String],
) -> Outcome {
    let parsed = command.parse(words)?;
    let path = parsed.path().to_owned();
    let Some(client) = session.client(&path).await? else {
        session.output.say("Not connected");
        return Ok(Value::from("Not connected"));
    };
    let mut context = Context {
        client,
        watches: session.watches.clone(),
        output: session.output.clone(),
        parsed,
    };
    context.rewrite_old_form(command.name);
    match command.name {
        "addWatch" => watch::add(&context).await,
        "addauth" => acls::add_auth(&context).await,
        "close" => {
            drop(context);
            session.close().await;
            Ok(Value::Null)
        }
        "config" => ensemble::config(&context).await,
        "create" => write::create(&context).await,
        "delete" => write::delete(&context).await,
        "deleteall" => tree::delete_all(&context).await,
        "delquota" => quotas::delete(&context).await,
        "get" => read::get(&context).await,
        "getAcl" => acls::get(&context).await,
        "getAllChildrenNumber" => read::count(&context).await,
        "getEphemerals" => read::ephemerals(&context).await,
        "listquota" => quotas::list(&context).await,
        "ls" => read::list(&context).await,
        "reconfig" => ensemble::reconfigure(&context).await,
        "removewatches" => watch::remove(&context).await,
        "set" => write::set(&context).await,
        "setAcl" => acls::set(&context).await,
        "setquota" => quotas::set(&context).await,
        "stat" => read::stat(&context).await,
        "sync" => read::sync(&context).await,
        "whoami" => ensemble::who_am_i(&context).await,
        other => Err(Failure::NotFound(other.to_owned())),
    }
}

impl Context {
    /// `get path true` and its like are from before 3.5; they still mean `-w`.
    fn rewrite_old_form(&mut self, name: &str) {
        if self.parsed.words.len() < 2 {
            return;
        }
        let new = match name {
            "get" => "get [-s] [-w] path",
            "ls" => "ls [-w] path",
            "stat" => "stat [-w] path",
            "delete" => {
                self.output.remark(
                    "'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.",
                );
                return;
            }
            _ => return,
        };
        self.output.remark(&format!(
            "'{name} path [watch]' has been deprecated. Please use '{new}' instead."
        ));
        self.parsed.words.truncate(1);
        self.parsed.set("w");
    }

    fn path(&self) -> &str {
        self.parsed.path()
    }

    fn word(&self, index: usize) -> Option<&str> {
        self.parsed.words.get(index).map(String::as_str)
    }
}
