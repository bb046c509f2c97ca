//! What a framework may say of itself, and what of it may change (`validation::framework` in `master/validation.cpp`).

use std::collections::BTreeSet;

use mesos::v1::{self, framework_info::capability::Type as Capability};

use super::Master;
use super::model::roles_of;

/// What fits the original's clock of 64-bit nanoseconds, in seconds.
const FAILOVER_TIMEOUT_MAX: f64 = 9_223_372_036.0;

impl Master {
    /// Checks what a framework says of itself.
    ///
    /// # Errors
    /// What is wrong, in the original's words.
    pub(super) fn check_framework(
        &self,
        info: &v1::FrameworkInfo,
        suppressed: &BTreeSet<String>,
    ) -> Result<(), String> {
        let multi_role =
            info.capabilities.iter().any(|own| own.r#type == Some(Capability::MultiRole as i32));
        if multi_role {
            if info.role.is_some() {
                return Err(
                    "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
                        .to_owned(),
                );
            }
            let mut seen = BTreeSet::new();
            let duplicates: BTreeSet<&str> =
                info.roles.iter().filter(|role| !seen.insert(*role)).map(String::as_str).collect();
            if !duplicates.is_empty() {
                let duplicates: Vec<&str> = duplicates.into_iter().collect();
                return Err(format!(
                    "'FrameworkInfo.roles' contains duplicate items: {{ {} }}",
                    duplicates.join(", ")
                ));
            }
            for role in &info.roles {
                mesos::roles::validate(role).map_err(|reason| {
                    format!("'FrameworkInfo.roles' contains invalid role: {reason}")
                })?;
            }
        } else {
            if !info.roles.is_empty() {
                return Err("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable".to_owned());
            }
            let role = info.role.as_deref().unwrap_or(mesos::roles::DEFAULT);
            mesos::roles::validate(role)
                .map_err(|reason| format!("'FrameworkInfo.role' is not a valid role: {reason}"))?;
        }
        if let Some(id) = info.id.as_ref().filter(|id| !id.value.is_empty()) {
            mesos::ids::validate(&id.value)?;
        }
        check_offer_filters(info)?;
        let roles = roles_of(info);
        let unknown: Vec<&str> =
            roles.iter().map(String::as_str).filter(|role| !self.has_role(role)).collect();
        if !unknown.is_empty() {
            return Err(format!(
                "Roles {{ {} }} are not present in the master's --roles",
                unknown.join(", ")
            ));
        }
        if let Some(unknown) = suppressed.iter().find(|role| !roles.contains(*role)) {
            return Err(format!(
                "Suppressed role '{unknown}' is not contained in the list of roles"
            ));
        }
        if info.user == "root" && !self.settings.root_submissions {
            return Err(
                "User 'root' is not allowed to run frameworks without --root_submissions set"
                    .to_owned(),
            );
        }
        if let Some(id) = &info.id
            && self.completed_frameworks.contains_key(&id.value)
        {
            return Err("Framework has been removed".to_owned());
        }
        let timeout = info.failover_timeout();
        if timeout.is_nan() || timeout.abs() > FAILOVER_TIMEOUT_MAX {
            return Err(format!(
                "The framework failover_timeout ({}) is invalid",
                general(timeout)
            ));
        }
        Ok(())
    }

    /// Completes what a framework that is known says of itself when it subscribes again: user and checkpointing stay as
    /// they were.
    ///
    /// # Errors
    /// When it comes as somebody else, who could take it over so.
    pub(super) fn keep_what_is_fixed(&self, info: &mut v1::FrameworkInfo) -> Result<(), String> {
        let known = info.id.as_ref().and_then(|id| self.frameworks.get(&id.value));
        let Some(known) = known else { return Ok(()) };
        info.user.clone_from(&known.info.user);
        info.checkpoint = known.info.checkpoint;
        check_change(&known.info, info)
    }
}

/// Checks what a framework wants to change of itself.
///
/// # Errors
/// When it is one of the things that stay.
pub(super) fn check_change(old: &v1::FrameworkInfo, new: &v1::FrameworkInfo) -> Result<(), String> {
    if old.principal != new.principal {
        tracing::warn!(
            framework = old.id.as_ref().map(|id| id.value.as_str()),
            old = old.principal,
            new = new.principal,
            "a framework's principal can't change"
        );
        return Err("Changing framework's principal is not allowed.".to_owned());
    }
    let fixed = [
        ("user", old.user.clone(), new.user.clone()),
        ("checkpoint", old.checkpoint().to_string(), new.checkpoint().to_string()),
    ];
    match fixed.into_iter().find(|(_, from, to)| from != to) {
        Some((name, from, to)) => Err(format!(
            "Updating 'FrameworkInfo.{name}' is unsupported; attempted to update from '{from}' to '{to}'"
        )),
        None => Ok(()),
    }
}

fn check_offer_filters(info: &v1::FrameworkInfo) -> Result<(), String> {
    let filters = info.offer_filters.values();
    let alternatives = filters
        .filter_map(|filters| filters.min_allocatable_resources.as_ref())
        .flat_map(|least| &least.quantities);
    for alternative in alternatives {
        if alternative.quantities.is_empty() {
            return Err("Resource quantities must contain at least one quantity".to_owned());
        }
        for (name, quantity) in &alternative.quantities {
            check_input(quantity.value)
                .map_err(|reason| format!("Invalid resource quantity for '{name}': {reason}"))?;
        }
    }
    Ok(())
}

/// Checks an amount that somebody asks for (`validateInputScalarValue`).
///
/// # Errors
/// When it is none.
pub(super) fn check_input(value: f64) -> Result<(), String> {
    use std::num::FpCategory;
    match value.classify() {
        FpCategory::Infinite => Err("Infinite values not supported".to_owned()),
        FpCategory::Nan => Err("NaN not supported".to_owned()),
        FpCategory::Subnormal => Err("Subnormal values not supported".to_owned()),
        FpCategory::Normal if value < 0.0 => Err("Negative values not supported".to_owned()),
        FpCategory::Normal | FpCategory::Zero => Ok(()),
    }
}

/// A number as C++ streams write it: six digits, an exponent where it is shorter.
fn general(value: f64) -> String {
    let exponent =
        if value == 0.0 || !value.is_finite() { 0 } else { value.abs().log10().floor() as i32 };
    if (-4..6).contains(&exponent) {
        let text = format!("{value:.*}", usize::try_from(5 - exponent).unwrap_or_default());
        return if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        };
    }
    let mantissa = format!("{:.5}", value / 10f64.powi(exponent));
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", mantissa.trim_end_matches('0').trim_end_matches('.'), exponent.abs())
}
