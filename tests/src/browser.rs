//! A headless Chromium, driven through ChromeDriver by plain WebDriver calls (W3C WebDriver: `/session/{id}/…`).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::{Daemon, kill_all_under};
use crate::{http, ports, wait};

/// How long the browser may take to start, and a page to show what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The member that holds an element's id in WebDriver's answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Whether there is a browser to test with.
#[must_use]
pub fn is_installed() -> bool {
    ["chromium", "chromedriver"].iter().all(|name| Path::new("/usr/bin").join(name).is_file())
}

/// A browser with one window. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    session: String,
    _driver: Daemon,
    directory: TempDir,
}

impl Browser {
    /// Starts one, with a profile of its own.
    ///
    /// # Panics
    /// When it doesn't start.
    #[must_use]
    pub fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let [port] = ports::free();
        let mut command = Command::new("chromedriver");
        command
            .arg(format!("--port={port}"))
            .env("TMPDIR", directory.path())
            .env("HOME", directory.path())
            .current_dir(directory.path());
        let driver = Daemon::start("chromedriver", directory.path(), &mut command);
        let base = format!("http://127.0.0.1:{port}");
        wait::until("ChromeDriver", PATIENCE, || {
            let status = http::get_json(&format!("{base}/status"))?;
            if status["value"]["ready"] == true { Ok(()) } else { Err(status.to_string()) }
        });
        let profile = format!("--user-data-dir={}", directory.path().join("profile").display());
        let options = json!({
            "binary": "/usr/bin/chromium",
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--disable-quic", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--window-size=1200,900", profile,
            ],
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "unhandledPromptBehavior": "ignore",
        }}});
        let answer = http::post_within(&format!("{base}/session"), &wanted, PATIENCE)
            .expect("ChromeDriver answers");
        let id = answer.json()["value"]["sessionId"].as_str().map(str::to_owned);
        let id = id.unwrap_or_else(|| panic!("no session: {}", answer.body));
        Self { session: format!("{base}/session/{id}"), _driver: driver, directory }
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let reply = http::post_within(&format!("{}{path}", self.session), body, PATIENCE)?;
        let value = reply.json()["value"].clone();
        if reply.status == 200 { Ok(value) } else { Err(value["message"].to_string()) }
    }

    /// Goes to a page.
    ///
    /// # Panics
    /// When it can't be loaded.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url})).unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// Waits for an element that an XPath finds; its path in the session.
    ///
    /// # Panics
    /// When it doesn't come.
    #[must_use]
    pub fn find(&self, xpath: &str) -> String {
        wait::until(&format!("{xpath} on the page"), PATIENCE, || {
            let found = self.post("/element", &json!({"using": "xpath", "value": xpath}));
            let id = found.map(|found| found[ELEMENT].as_str().map(str::to_owned));
            match id {
                Ok(Some(id)) => Ok(format!("/element/{id}")),
                other => Err(format!("{other:?}; the page: {}", self.text())),
            }
        })
    }

    /// Clicks on what an XPath finds, as soon as that is possible.
    ///
    /// # Panics
    /// When it stays impossible.
    pub fn click(&self, xpath: &str) {
        wait::until(&format!("a click on {xpath}"), PATIENCE, || {
            self.post(&format!("{}/click", self.find(xpath)), &json!({})).map(|_| ())
        });
    }

    /// Replaces the text of an input.
    ///
    /// # Panics
    /// When it can't be typed into.
    pub fn fill(&self, xpath: &str, text: &str) {
        let element = self.find(xpath);
        self.post(&format!("{element}/clear"), &json!({})).expect("an input to clear");
        self.post(&format!("{element}/value"), &json!({"text": text}))
            .expect("an input to type into");
    }

    /// Answers the dialogue that the page shows: with a text first where one is asked for, then with yes.
    ///
    /// # Panics
    /// When none comes.
    pub fn answer(&self, text: Option<&str>) {
        wait::until("a dialogue", PATIENCE, || {
            if let Some(text) = text {
                self.post("/alert/text", &json!({"text": text}))?;
            }
            self.post("/alert/accept", &json!({}))
        });
    }

    /// What the page shows, as text.
    #[must_use]
    pub fn text(&self) -> String {
        let script = json!({"script": "return document.body.innerText", "args": []});
        match self.post("/execute/sync", &script) {
            Ok(Value::String(text)) => text,
            other => format!("{other:?}"),
        }
    }

    /// Waits until the page shows a text.
    ///
    /// # Panics
    /// When it doesn't come.
    pub fn wait_for_text(&self, wanted: &str) {
        wait::until(&format!("'{wanted}' on the page"), PATIENCE, || {
            let text = self.text();
            if text.contains(wanted) { Ok(()) } else { Err(text) }
        });
    }

    /// What the page complained about on its console since the last call: errors of scripts, what the
    /// Content-Security-Policy forbade, what could not be loaded.
    ///
    /// # Panics
    /// When ChromeDriver doesn't tell.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "browser"})).expect("the console's log");
        log.as_array()
            .into_iter()
            .flatten()
            .filter(|entry| entry["level"] == "SEVERE")
            .map(|entry| entry["message"].to_string())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // An error means that the browser has ended already.
        let _ = http::delete(&self.session);
        kill_all_under(self.directory.path());
    }
}
