//! Which master, and as whom: options, else the configuration file, else this host.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tls::Tls;

use crate::cli::Global;

/// What commands go by.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The master, as given.
    pub(crate) master: String,
    /// Where that was said.
    pub(crate) said_by: &'static str,
    /// TLS, where the cluster speaks it.
    pub(crate) tls: Option<Tls>,
    /// Name and secret.
    pub(crate) credential: Option<(String, String)>,
    /// The file that was read, if any.
    pub(crate) config: Option<PathBuf>,
}

/// Where the configuration is, if nobody says: as for the original's command.
fn usual_config() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    [".mesos/config.toml", ".mesos.toml"]
        .iter()
        .map(|name| home.join(name))
        .find(|path| path.is_file())
}

/// TLS as the environment has it for Mesos' own programs; else for a master that is named by `https://`, whose
/// certificate must be one of what is named, signed by whom the system trusts or `ca_file` holds.
fn tls(master: &str, ca_file: Option<PathBuf>) -> Result<Option<Tls>> {
    if let Some(given) = tls::of_client()? {
        return Ok(Some(given));
    }
    if !master.starts_with("https://") && ca_file.is_none() {
        return Ok(None);
    }
    let settings = tls::Settings {
        verify_server_cert: true,
        verify_ipadd: true,
        scheme: tls::Scheme::OpenSsl,
        tls_v1_3: true,
        ca_file,
        ..tls::Settings::default()
    };
    Ok(Some(Tls::new(settings)?))
}

impl Settings {
    /// Settings from options and the configuration file.
    ///
    /// # Errors
    /// When the file or the secret can't be read.
    pub(crate) fn load(global: &Global) -> Result<Self> {
        let config = global.config.clone().or_else(usual_config);
        let table: toml::Table = match &config {
            None => toml::Table::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(anyhow::Error::from)
                .and_then(|text| Ok(text.parse()?))
                .with_context(|| path.display().to_string())?,
        };
        let section = table.get("master").and_then(toml::Value::as_table);
        let text = |name: &str| {
            section
                .and_then(|section| section.get(name))
                .and_then(toml::Value::as_str)
                .map(str::to_owned)
        };
        let (master, said_by) = match (&global.master, text("address")) {
            (Some(master), _) => (master.clone(), "--master or MESOS_MASTER"),
            (None, Some(master)) => (master, "the configuration file"),
            (None, None) => ("127.0.0.1:5050".to_owned(), "nobody: this is the default"),
        };
        let principal = global.principal.clone().or_else(|| text("principal"));
        let secret = global.secret_file.clone().or_else(|| text("secret_file").map(PathBuf::from));
        let credential = match (principal, secret) {
            (Some(principal), Some(path)) => {
                let secret = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read the secret in {}", path.display()))?;
                let secret = secret.trim_end_matches(['\r', '\n']).to_owned();
                ensure!(!secret.is_empty(), "the secret in {} is empty", path.display());
                Some((principal, secret))
            }
            _ => None,
        };
        let ca_file = global.ca_file.clone().or_else(|| text("ca_file").map(PathBuf::from));
        let tls = tls(&master, ca_file)?;
        Ok(Self { master, said_by, tls, credential, config })
    }
}
