//! The two HTTP servers: the administrator's commands and the metrics.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{ConfigError, Values, address};

/// The class that serves metrics over HTTP.
const PROMETHEUS: &str = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
/// The classes that keep metrics for the commands alone, or not at all.
const QUIET: [&str; 2] = [
    "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
    "org.apache.zookeeper.metrics.impl.NullMetricsProvider",
];

/// Where and how commands are answered (`JettyAdminServer`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    /// The path that commands are below, without a slash at its end.
    pub url: String,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// Whether nobody asked for it.
    pub is_default: bool,
    /// Whether it speaks TLS.
    pub https: Https,
}

/// Whether administrators speak TLS, with the keys of `ssl.quorum.*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Https {
    /// No.
    #[default]
    Off,
    /// If they want to (`admin.portUnification`).
    Taken,
    /// Only such are served (`admin.forceHttps`).
    Forced,
}

/// Where metrics are shown (`PrometheusMetricsProvider`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether those of the process are shown too.
    pub with_process: bool,
}

impl Admin {
    pub(super) fn read(values: &Values) -> Result<Option<Self>, ConfigError> {
        // Only what says that it is off is off (`AdminServerFactory`).
        if values.text("admin.enableServer") == Some("false") {
            return Ok(None);
        }
        let address = listen(values, "admin.serverAddress", "admin.serverPort", 8080)?;
        let url = values.text("admin.commandURL").unwrap_or("/commands").trim_end_matches('/');
        if !url.is_empty() && !url.starts_with('/') {
            return Err(values.error("admin.commandURL", "must begin with a slash"));
        }
        let idle_ms: u32 = values.number("admin.idleTimeout", 30_000)?;
        let idle = Duration::from_millis(u64::from(idle_ms));
        let is_default = !values.keys().any(|key| key.starts_with("admin."));
        let is_unified = values.boolean("admin.portUnification")?;
        let https = match values.decided("admin.forceHttps", false)? {
            true => Https::Forced,
            false if is_unified => Https::Taken,
            false => Https::Off,
        };
        Ok(Some(Self { address, url: url.to_owned(), idle, is_default, https }))
    }
}

impl Metrics {
    pub(super) fn read(values: &Values) -> Result<Option<Self>, ConfigError> {
        match values.text("metricsProvider.className") {
            None => return Ok(None),
            Some(name) if QUIET.contains(&name) => return Ok(None),
            Some(PROMETHEUS) => {}
            Some(name) => {
                return Err(values.error(
                    "metricsProvider.className",
                    format!("metrics provider class was not found: '{name}'; use {PROMETHEUS}"),
                ));
            }
        }
        let address = listen(values, "metricsProvider.httpHost", "metricsProvider.httpPort", 7000)?;
        let with_process = values.boolean_or("metricsProvider.exportJvmInfo", true)?;
        Ok(Some(Self { address, with_process }))
    }
}

fn listen(
    values: &Values,
    host: &str,
    port: &str,
    default: u16,
) -> Result<SocketAddr, ConfigError> {
    let ip = values.text(host).map_or(Ok(IpAddr::from([0, 0, 0, 0])), |_| address(values, host))?;
    let number = values.number(port, i64::from(default))?;
    let number = u16::try_from(number)
        .map_err(|_| values.error(port, "a port is a number from 0 to 65535"))?;
    Ok(SocketAddr::new(ip, number))
}
