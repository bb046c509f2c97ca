//! How much a daemon logs: set at its start, raised for a while by an operator (libprocess' `logging.cpp`).

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::log_files::LogFile;
use crate::respond;

static FILTER: OnceLock<(reload::Handle<EnvFilter, Registry>, String)> = OnceLock::new();
/// The level in the low half, how often it was set in the high half.
static VERBOSITY: AtomicU64 = AtomicU64::new(0);

/// Where a Mesos daemon's logs go, as its flags say.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The program's name, with which names of files begin.
    pub program: &'a str,
    /// `--logging_level`.
    pub level: &'a str,
    /// `--log_dir`.
    pub directory: Option<&'a str>,
    /// `--quiet`: not to standard error.
    pub quiet: bool,
}

/// Sends logs where the flags of a Mesos daemon say (`logging/logging.cpp`); `RUST_LOG` decides what is logged if it is set.
///
/// # Errors
/// When there is no such level, or no such directory and it can't be made; the text is for the user.
pub fn init_at(places: Places<'_>) -> Result<(), String> {
    let level = match places.level {
        "INFO" => "info",
        "WARNING" => "warn",
        "ERROR" => "error",
        other => {
            return Err(format!(
                "'{other}' is not a valid logging level. Possible values for 'logging_level' flag are: 'INFO', 'WARNING', 'ERROR'."
            ));
        }
    };
    if let Some(directory) = places.directory {
        std::fs::create_dir_all(directory).map_err(|error| {
            format!("Could not initialize logging: Failed to create directory {directory}: {error}")
        })?;
    }
    start(
        level,
        places.directory.map(|directory| (Path::new(directory), places.program)),
        places.quiet,
    );
    Ok(())
}

/// Sends logs to standard error, one line an event, at `level` unless `RUST_LOG` says otherwise.
pub fn init(level: &str) {
    start(level, None, false);
}

fn start(level: &str, files: Option<(&Path, &str)>, quiet: bool) {
    let given = std::env::var("RUST_LOG").unwrap_or_else(|_| level.to_owned());
    let filter = EnvFilter::try_new(&given).unwrap_or_else(|_| EnvFilter::new(level));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = || tracing_subscriber::fmt::layer().with_ansi(false);
    let mut places = Vec::new();
    if !quiet {
        places.push(lines().with_writer(std::io::stderr).boxed());
    }
    if let Some((directory, program)) = files {
        for (severity, least) in [
            ("INFO", LevelFilter::TRACE),
            ("WARNING", LevelFilter::WARN),
            ("ERROR", LevelFilter::ERROR),
        ] {
            let file = Mutex::new(LogFile::new(directory, program, severity));
            places.push(lines().with_writer(file).with_filter(least).boxed());
        }
    }
    let all = tracing_subscriber::registry().with(filter).with(places);
    // Fails only where logging is set up already, which is as good.
    if all.try_init().is_ok() {
        let _ = FILTER.set((handle, given));
    }
}

/// How much more than usual is logged: 0 is usual (glog's `--v`).
pub fn verbosity() -> u32 {
    (VERBOSITY.load(Ordering::Relaxed) & 0xffff_ffff) as u32
}

fn apply(level: u32) {
    let Some((handle, usual)) = FILTER.get() else { return };
    let filter = match level {
        0 => usual.as_str(),
        1 => "debug",
        _ => "trace",
    };
    // Fails only when the subscriber is gone: then nobody logs.
    let _ = handle.reload(EnvFilter::new(filter));
}

/// Logs more for `duration`, then as before. Must be called within a tokio runtime.
pub fn set_verbosity(level: u32, duration: Duration) {
    let set = (VERBOSITY.load(Ordering::Relaxed) >> 32) + 1;
    let now = set << 32 | u64::from(level);
    VERBOSITY.store(now, Ordering::Relaxed);
    apply(level);
    if level == 0 {
        return;
    }
    tokio::spawn(async move {
        tokio::time::sleep(duration).await;
        let usual = set << 32;
        // Whoever set it since decides.
        if VERBOSITY.compare_exchange(now, usual, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            apply(0);
        }
    });
}

/// `/logging/toggle`: what is logged now, or `level=…&duration=…` to change it.
pub fn toggle(
    query: Option<&str>,
    duration: impl Fn(&str) -> Result<Duration, String>,
) -> Response {
    let refused = |text: String| respond::text(StatusCode::BAD_REQUEST, text);
    let parameter = |name: &str| respond::query_parameter(query, name);
    let (level, time) = match (parameter("level"), parameter("duration")) {
        (None, None) => return respond::text(StatusCode::OK, format!("{}\n", verbosity())),
        (None, _) => return refused("Expecting 'level=value' in query.\n".to_owned()),
        (_, None) => return refused("Expecting 'duration=value' in query.\n".to_owned()),
        (Some(level), Some(time)) => (level, time),
    };
    let parsed = match level.parse::<i32>().map(u32::try_from) {
        Ok(Ok(parsed)) => parsed,
        Ok(Err(_)) => return refused(format!("Invalid level '{level}'.\n")),
        Err(_) => return refused(format!("Failed to convert '{level}' to number.\n")),
    };
    match duration(&time) {
        Ok(duration) => {
            set_verbosity(parsed, duration);
            respond::empty(StatusCode::OK)
        }
        Err(reason) => refused(format!("{reason}.\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn more_is_logged_for_a_while() {
        set_verbosity(2, Duration::from_secs(10));
        set_verbosity(1, Duration::from_secs(20));
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(verbosity(), 1, "the first is over, the second is not");
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(verbosity(), 0);
        let parse = |_: &str| Err("no".to_owned());
        assert_eq!(toggle(None, parse).status(), StatusCode::OK);
        for query in ["level=1", "duration=1secs", "level=x&duration=1secs", "level=1&duration=x"] {
            assert_eq!(toggle(Some(query), parse).status(), StatusCode::BAD_REQUEST, "{query}");
        }
    }
}
