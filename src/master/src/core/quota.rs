//! Quotas: what roles are guaranteed and limited to (`master/quota_handler.cpp`).

use std::collections::BTreeMap;

use mesos::internal::registry::MinimumCapability;
use mesos::resources::{Milli, Resources};
use mesos::v1;
use mesos::v1::quota::{QuotaConfig, QuotaInfo, QuotaRequest, QuotaStatus};
use mesos::v1::value::Scalar;

use super::allocator::{Limits, Quantities, Quota};
use super::framework_info::check_input;
use super::operator::bad;
use super::{Master, Refusal};

/// What a registry with quotas asks of every master that reads it.
const CAPABILITY: &str = "QUOTA_V2";
/// An exabyte in MB: the most memory or disk that is taken.
const MEGABYTES_MAX: f64 = 1_099_511_627_776.0;
/// The most of anything else.
const OTHERS_MAX: f64 = 1e12;

fn is_in(role: &str, root: &str) -> bool {
    role == root || mesos::roles::is_below(role, root)
}

fn scalars(map: &BTreeMap<String, Scalar>) -> String {
    let each: Vec<String> =
        map.iter().map(|(name, scalar)| format!("{name}: {}", scalar.value)).collect();
    format!("{{ {} }}", each.join(", "))
}

/// Checks a quota by itself.
fn check(config: &QuotaConfig) -> Result<(), String> {
    mesos::roles::validate(&config.role)
        .map_err(|reason| format!("Invalid 'QuotaConfig.role': {reason}"))?;
    for (field, map) in [("guarantees", &config.guarantees), ("limits", &config.limits)] {
        for (name, scalar) in map {
            let is_size = matches!(name.as_str(), "mem" | "disk");
            let (most, text) = if is_size {
                (MEGABYTES_MAX, "1 exabyte (1099511627776)")
            } else {
                (OTHERS_MAX, "1 trillion (1000000000000)")
            };
            if scalar.value > most {
                return Err(format!(
                    "Invalid 'QuotaConfig.{field}': {{'{name}': {}}} is invalid: values greater than {text} are not supported",
                    scalar.value
                ));
            }
        }
    }
    for (kind, map) in [("guarantee", &config.guarantees), ("limit", &config.limits)] {
        for (name, scalar) in map {
            let wrong = |reason: &str| {
                Err(format!(
                    "Invalid {kind} configuration {{'{name}': {}}}: {reason}",
                    scalar.value
                ))
            };
            if let Err(reason) = check_input(scalar.value) {
                return wrong(&reason);
            }
        }
    }
    let quota = Quota::from_config(config);
    if !quota.limits.contains(&quota.guarantees) {
        return Err(format!(
            "'QuotaConfig.guarantees' {} is not contained within the 'QuotaConfig.limits' {}",
            scalars(&config.guarantees),
            scalars(&config.limits)
        ));
    }
    Ok(())
}

fn to_map(guarantee: &[v1::Resource]) -> BTreeMap<String, Scalar> {
    guarantee
        .iter()
        .filter_map(|resource| Some((resource.name.clone(), resource.scalar?)))
        .collect()
}

impl Master {
    /// Takes over the quotas of the registry, those of older masters as well.
    pub(super) fn recover_quotas(&mut self) {
        for old in std::mem::take(&mut self.registry.quotas) {
            let amounts = to_map(&old.info.guarantee);
            self.registry.quota_configs.push(QuotaConfig {
                role: old.info.role().to_owned(),
                guarantees: amounts.clone(),
                limits: amounts,
            });
        }
        for config in &self.registry.quota_configs {
            self.allocator.set_quota(&config.role, Quota::from_config(config));
        }
    }

    /// All quotas, by role.
    pub fn quotas(&self) -> BTreeMap<&str, &QuotaConfig> {
        let configs = self.registry.quota_configs.iter();
        configs.map(|config| (config.role.as_str(), config)).collect()
    }

    /// All quotas, as GET_QUOTA and `/quota` show them.
    pub fn quota_status(&self) -> QuotaStatus {
        let quotas = self.quotas();
        let info = |config: &QuotaConfig| QuotaInfo {
            role: Some(config.role.clone()),
            guarantee: config
                .guarantees
                .iter()
                .map(|(name, scalar)| v1::Resource {
                    name: name.clone(),
                    r#type: v1::value::Type::Scalar as i32,
                    scalar: Some(*scalar),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        QuotaStatus {
            infos: quotas.values().map(|config| info(config)).collect(),
            configs: quotas.values().map(|config| (*config).clone()).collect(),
        }
    }

    /// What a role and all below consume of its quota: what is reserved for them, used or not, and what else they use.
    pub fn consumed_quota(&self, role: &str) -> Quantities {
        let mut consumed = Quantities::default();
        for agent in self.agents.values() {
            for (own, reserved) in agent.total.reservations() {
                if is_in(&own, role) {
                    consumed.plus(&Quantities::of(&reserved));
                }
            }
        }
        for known in self.frameworks.values() {
            for (own, used) in known.used_by_role() {
                if is_in(&own, role) {
                    consumed.plus(&Quantities::of(&used.unreserved().non_revocable()));
                }
            }
        }
        consumed
    }

    fn capacity(&self) -> Quantities {
        let mut capacity = Quantities::default();
        for agent in self.agents.values() {
            capacity.plus(&Quantities::of(&agent.total.non_revocable()));
        }
        capacity
    }

    /// The guarantees of all roles at the top, with some changed.
    fn guarantees_with(&self, changed: &[QuotaConfig]) -> Quantities {
        let mut configs = self.quotas();
        configs.extend(changed.iter().map(|config| (config.role.as_str(), config)));
        let mut sum = Quantities::default();
        for config in configs.values().filter(|config| !config.role.contains('/')) {
            sum.plus(&Quantities::from_map(&config.guarantees));
        }
        sum
    }

    /// Changes quotas (UPDATE_QUOTA); without guarantees and limits a role has none any more.
    ///
    /// # Errors
    /// When one is not valid, is exceeded already, or all guarantees together are more than there is.
    pub fn update_quota(&mut self, configs: &[QuotaConfig], force: bool) -> Result<(), Refusal> {
        for config in configs {
            if !self.has_role(&config.role) {
                return Err(bad(format!(
                    "Invalid QuotaConfig: '{}' is not on the roles whitelist",
                    config.role
                )));
            }
            if config.role.contains('/') {
                return Err(bad(format!(
                    "Updating quota on nested role '{}' is not supported yet",
                    config.role
                )));
            }
            check(config).map_err(|reason| bad(format!("Invalid QuotaConfig: {reason}")))?;
        }
        for config in configs.iter().filter(|_| !force) {
            let limits = Limits::from_map(&config.limits);
            let consumed = self.consumed_quota(&config.role);
            if !limits.contains(&consumed) {
                return Err(bad(format!(
                    "Invalid QuotaConfig: Role '{}' is already consuming '{consumed}'; this is more than the requested limits '{limits}' (use 'force' flag to bypass this check)",
                    config.role
                )));
            }
        }
        let (guarantees, capacity) = (self.guarantees_with(configs), self.capacity());
        if !force && !capacity.contains(&guarantees) {
            return Err(bad(format!(
                "Invalid QuotaConfig: total quota guarantees '{guarantees}' exceed cluster capacity '{capacity}' (use 'force' flag to bypass this check)"
            )));
        }
        self.apply_quotas(configs);
        Ok(())
    }

    fn apply_quotas(&mut self, configs: &[QuotaConfig]) {
        // Who is guaranteed nothing of a resource has no guarantee of it; a limit of nothing is one.
        let configs: Vec<QuotaConfig> = configs
            .iter()
            .cloned()
            .map(|mut config| {
                config.guarantees.retain(|_, scalar| Milli::from_f64(scalar.value).0 != 0);
                config
            })
            .collect();
        for config in &configs {
            let quota = Quota::from_config(config);
            self.registry.quota_configs.retain(|own| own.role != config.role);
            if !quota.is_default() {
                self.registry.quota_configs.push(config.clone());
            }
            self.allocator.set_quota(&config.role, quota);
        }
        self.registry.minimum_capabilities.retain(|own| own.capability != CAPABILITY);
        if !self.registry.quota_configs.is_empty() {
            let needed = MinimumCapability { capability: CAPABILITY.to_owned() };
            self.registry.minimum_capabilities.push(needed);
        }
        self.store();
        for config in &configs {
            self.rescind_for_quota(config);
        }
        self.allocation_wanted = true;
    }

    /// Takes offers back that a quota leaves no room for: the role's own above its limits, others' for its guarantees.
    fn rescind_for_quota(&mut self, config: &QuotaConfig) {
        let quota = Quota::from_config(config);
        let mut taken = self.consumed_quota(&config.role);
        let quantities = |offer: &super::model::Offer| Quantities::of(&offer.resources);
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (id, offer) in self.offers.iter() {
            if is_in(&offer.role, &config.role) {
                taken.plus(&quantities(offer));
                own.push((id.to_owned(), quantities(offer)));
            } else {
                others.push((id.to_owned(), quantities(offer)));
            }
        }
        for (id, quantities) in own {
            if quota.limits.contains(&taken) {
                break;
            }
            taken.minus(&quantities);
            self.rescind(&id, true);
        }
        for (id, quantities) in others {
            if taken.contains(&quota.guarantees) {
                break;
            }
            taken.plus(&quantities);
            self.rescind(&id, true);
        }
    }

    /// Gives a role a quota in the older form, in which guarantee and limit are the same (SET_QUOTA, `POST /quota`).
    ///
    /// # Errors
    /// When it is not valid, the role has one already, or all guarantees together are more than there is.
    pub fn set_quota(&mut self, request: &QuotaRequest) -> Result<(), Refusal> {
        const FAILED: &str = "Failed to validate set quota request:";
        Resources::validate(&request.guarantee)
            .map_err(|reason| bad(format!("{FAILED} QuotaInfo with invalid resource: {reason}")))?;
        check_info(request).map_err(|reason| bad(format!("{FAILED} {reason}")))?;
        let role = request.role();
        if !self.has_role(role) {
            return Err(bad(format!("{FAILED} Unknown role '{role}'")));
        }
        if self.quotas().contains_key(role) {
            return Err(bad(format!(
                "{FAILED} Cannot set quota for role '{role}' which already has quota"
            )));
        }
        if role.contains('/') {
            return Err(bad(format!("Setting quota on nested role '{role}' is not supported yet")));
        }
        let amounts = to_map(&request.guarantee);
        let config =
            [QuotaConfig { role: role.to_owned(), guarantees: amounts.clone(), limits: amounts }];
        let (guarantees, capacity) = (self.guarantees_with(&config), self.capacity());
        if !request.force() && !capacity.contains(&guarantees) {
            return Err(Refusal::Conflict(format!(
                "Quota guarantees overcommit the cluster (use 'force' to bypass this check): Total quota guarantees '{guarantees}' exceed cluster capacity '{capacity}'"
            )));
        }
        self.apply_quotas(&config);
        Ok(())
    }

    /// Takes a role's quota away (REMOVE_QUOTA).
    ///
    /// # Errors
    /// When the role is not on the whitelist, or has none.
    pub fn remove_quota(&mut self, role: &str) -> Result<(), Refusal> {
        self.remove_quota_at(role, &format!("role '{role}'"))
    }

    /// The same of a role that was named in some place (`DELETE /quota/<role>`), as errors call it.
    ///
    /// # Errors
    /// As [`Master::remove_quota`].
    pub fn remove_quota_at(&mut self, role: &str, place: &str) -> Result<(), Refusal> {
        if !self.has_role(role) {
            return Err(bad(format!(
                "Failed to validate remove quota request for {place}: Unknown role '{role}'"
            )));
        }
        if !self.quotas().contains_key(role) {
            return Err(bad(format!(
                "Failed to remove quota for {place}: Role '{role}' has no quota set"
            )));
        }
        self.apply_quotas(&[QuotaConfig { role: role.to_owned(), ..Default::default() }]);
        Ok(())
    }
}

fn check_info(request: &QuotaRequest) -> Result<(), String> {
    let refuse = |text: &str| Err(text.to_owned());
    mesos::roles::validate(request.role())
        .map_err(|reason| format!("QuotaInfo with invalid role: {reason}"))?;
    if request.guarantee.is_empty() {
        return refuse("QuotaInfo with empty 'guarantee'");
    }
    let mut names = std::collections::BTreeSet::new();
    for resource in &request.guarantee {
        let is_reserved =
            resource.role.as_deref().is_some_and(|role| role != mesos::roles::DEFAULT);
        if is_reserved || resource.reservation.is_some() || !resource.reservations.is_empty() {
            return refuse("QuotaInfo must not contain any ReservationInfo");
        }
        if resource.disk.is_some() {
            return refuse("QuotaInfo must not contain DiskInfo");
        }
        if resource.revocable.is_some() {
            return refuse("QuotaInfo must not contain RevocableInfo");
        }
        if resource.r#type() != v1::value::Type::Scalar {
            return refuse("QuotaInfo must not include non-scalar resources");
        }
        if !names.insert(&resource.name) {
            return Err(format!("QuotaInfo contains duplicate resource name '{}'", resource.name));
        }
    }
    Ok(())
}
