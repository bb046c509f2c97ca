//! Suites and groups, by the names that OpenSSL gives them.

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::{NamedGroup, SupportedCipherSuite};

use crate::{Settings, TlsError};

/// A suite's name as OpenSSL has it.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name
            .trim_start_matches("TLS_")
            .replace("WITH_", "")
            .replace("AES_", "AES")
            .replace("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305")
            .replace('_', "-"),
    }
}

/// A group's names: NIST's, SEC's and ANSI's.
fn group_names(group: NamedGroup) -> &'static [&'static str] {
    match group {
        NamedGroup::X25519 => &["X25519"],
        NamedGroup::secp256r1 => &["P-256", "secp256r1", "prime256v1"],
        NamedGroup::secp384r1 => &["P-384", "secp384r1"],
        _ => &[],
    }
}

fn none_known(variable: &str, named: &[String], known: &[String]) -> TlsError {
    TlsError::Variable {
        variable: variable.to_owned(),
        reason: format!("none of {} is supported; these are: {}", named.join(":"), known.join(":")),
    }
}

fn warn_of(variable: &str, unknown: &[String]) {
    if !unknown.is_empty() {
        tracing::warn!("{variable}: not supported, and left out: {}", unknown.join(":"));
    }
}

/// The library's cryptography, with what the settings name. Suites of TLS 1.3 are named apart in OpenSSL, so that a
/// list of suites is one of TLS 1.2's.
pub(crate) fn provider(settings: &Settings) -> Result<CryptoProvider, TlsError> {
    let mut provider = ring::default_provider();
    if !settings.ciphers.is_empty() {
        let variable = "LIBPROCESS_SSL_CIPHERS";
        let is_old = |suite: &SupportedCipherSuite| suite.tls13().is_none();
        let (old, new): (Vec<_>, Vec<_>) = provider.cipher_suites.iter().copied().partition(is_old);
        let find = |name: &String| {
            old.iter().find(|suite| suite_name(suite).eq_ignore_ascii_case(name)).copied()
        };
        let found: Vec<SupportedCipherSuite> = settings.ciphers.iter().filter_map(find).collect();
        if found.is_empty() && settings.tls_v1_2 {
            let known: Vec<String> = old.iter().map(suite_name).collect();
            return Err(none_known(variable, &settings.ciphers, &known));
        }
        let unknown = settings.ciphers.iter().filter(|name| find(name).is_none());
        warn_of(variable, &unknown.cloned().collect::<Vec<_>>());
        provider.cipher_suites = new.into_iter().chain(found).collect();
    }
    if !settings.ecdh_curves.is_empty() {
        let variable = "LIBPROCESS_SSL_ECDH_CURVES";
        let find = |name: &String| -> Option<&'static dyn SupportedKxGroup> {
            let is_named = |group: &&&'static dyn SupportedKxGroup| {
                group_names(group.name()).iter().any(|own| own.eq_ignore_ascii_case(name))
            };
            provider.kx_groups.iter().find(is_named).copied()
        };
        let found: Vec<_> = settings.ecdh_curves.iter().filter_map(find).collect();
        if found.is_empty() {
            let names =
                provider.kx_groups.iter().filter_map(|group| group_names(group.name()).first());
            let known: Vec<String> = names.map(|name| (*name).to_owned()).collect();
            return Err(none_known(variable, &settings.ecdh_curves, &known));
        }
        let unknown = settings.ecdh_curves.iter().filter(|name| find(name).is_none());
        warn_of(variable, &unknown.cloned().collect::<Vec<_>>());
        provider.kx_groups = found;
    }
    Ok(provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn suites_have_the_names_of_openssl() {
        let all: Vec<String> =
            ring::default_provider().cipher_suites.iter().map(suite_name).collect();
        for name in [
            "TLS_AES_128_GCM_SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-RSA-CHACHA20-POLY1305",
        ] {
            assert!(all.iter().any(|own| own == name), "{name} in {all:?}");
        }
    }

    #[test]
    fn what_is_named_is_offered_in_that_order() {
        let settings = Settings {
            ciphers: names(&[
                "AES128-SHA",
                "ECDHE-RSA-CHACHA20-POLY1305",
                "ECDHE-RSA-AES128-GCM-SHA256",
            ]),
            ecdh_curves: names(&["P-521", "P-384", "prime256v1"]),
            ..Settings::default()
        };
        let provider = provider(&settings).unwrap();
        let suites: Vec<String> = provider.cipher_suites.iter().map(suite_name).collect();
        assert_eq!(suites[3..], ["ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"]);
        let groups: Vec<NamedGroup> = provider.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups, [NamedGroup::secp384r1, NamedGroup::secp256r1]);
    }

    #[test]
    fn nothing_that_is_known_is_an_error() {
        let suites = Settings { ciphers: names(&["AES128-SHA"]), ..Settings::default() };
        let error = provider(&suites).unwrap_err().to_string();
        assert!(error.contains("LIBPROCESS_SSL_CIPHERS") && error.contains("ECDHE-"), "{error}");
        let curves = Settings { ecdh_curves: names(&["P-521"]), ..Settings::default() };
        let error = provider(&curves).unwrap_err().to_string();
        assert!(error.contains("X25519") && error.contains("P-256"), "{error}");
    }
}
