//! The sample app: a small page on the port that Marathon gave it, by whatever this machine has to serve one.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{Options, ready};

const ID: &str = "/hello";
/// Says that the app was created here once: who destroys it does not want it back.
const MARK: &str = "sample-created";
/// How long its first instance may take to run.
const DEPLOY_MAX: Duration = Duration::from_secs(30);

/// Creates the app on a directory's first run; its id, if it exists.
///
/// # Errors
/// When Marathon refuses it or doesn't answer.
pub(super) async fn create(
    options: &Options,
    directory: &Path,
) -> anyhow::Result<Option<&'static str>> {
    let client = ready::client()?;
    let apps = format!("http://{}:{}/v2/apps", options.shown_host(), options.marathon_port);
    let mark = directory.join(MARK);
    if mark.exists() {
        let found = client.get(format!("{apps}{ID}")).send().await.context("Marathon")?;
        if !found.status().is_success() {
            return Ok(None);
        }
        settled(&client, &format!("{apps}{ID}")).await;
        return Ok(Some(ID));
    }
    let app = json!({
        "id": ID,
        "cmd": command(&options.bind.to_string(), is_installed),
        "cpus": 0.1,
        "mem": 32,
        "instances": 1,
    });
    let answer = client.post(&apps).json(&app).send().await.context("the sample app")?;
    let status = answer.status();
    // 409: it is there, and the run that created it ended before it could say so.
    if !status.is_success() && status.as_u16() != 409 {
        let body = answer.text().await.unwrap_or_default();
        bail!("Marathon refuses the sample app: {status} {body}");
    }
    fs::write(&mark, "").with_context(|| format!("{} can't be written", mark.display()))?;
    settled(&client, &format!("{apps}{ID}")).await;
    Ok(Some(ID))
}

/// Waits until the app is deployed: until then Marathon refuses to scale it. One that never gets there is for a person to
/// look at, on a cluster that runs.
async fn settled(client: &reqwest::Client, url: &str) {
    let deadline = Instant::now() + DEPLOY_MAX;
    while Instant::now() < deadline {
        let app = ready::json(client, url).await.unwrap_or_default();
        if app["app"]["deployments"].as_array().is_some_and(Vec::is_empty) {
            return;
        }
        tokio::time::sleep(ready::LOOK).await;
    }
    tracing::warn!("the sample app is not deployed after {} s", DEPLOY_MAX.as_secs());
}

/// Serves a page that says which task it comes from, or else prints it for ever.
fn command(address: &str, is_installed: impl Fn(&str) -> bool) -> String {
    let page = "mkdir -p page && echo \"<!doctype html><title>hello</title><p>Hello from $MESOS_TASK_ID\" > page/index.html && cd page && exec ";
    if is_installed("python3") {
        format!("{page}python3 -m http.server --bind {address} $PORT0")
    } else if is_installed("busybox") {
        format!("{page}busybox httpd -f -p {address}:$PORT0")
    } else {
        "while true; do echo \"Hello from $MESOS_TASK_ID\"; sleep 5; done".to_owned()
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_served_by_what_is_installed() {
        let by =
            |installed: &'static str| command("127.0.0.1", move |program| program == installed);
        assert!(by("python3").ends_with("python3 -m http.server --bind 127.0.0.1 $PORT0"));
        assert!(by("busybox").ends_with("busybox httpd -f -p 127.0.0.1:$PORT0"));
        assert!(by("nothing").starts_with("while true"));
    }
}
