//! `quota`.

use anyhow::{Context as _, Result, bail, ensure};
use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::master::Call;
use mesos::v1::master::call::{self, Type};
use mesos::v1::quota::QuotaConfig;

use super::Context;
use crate::cli::Quota;
use crate::find::master_call;
use crate::show::{self, number};

/// Quantities like `cpus:4;mem:1024`.
fn quantities<C: FromIterator<(String, v1::value::Scalar)>>(text: Option<&str>) -> Result<C> {
    let parsed = Resources::parse(text.unwrap_or_default(), "*")
        .map_err(|error| anyhow::anyhow!("'{}': {error}", text.unwrap_or_default()))?;
    parsed
        .to_protos()
        .into_iter()
        .map(|resource| {
            let scalar =
                resource.scalar.with_context(|| format!("'{}' is no quantity", resource.name))?;
            Ok((resource.name, scalar))
        })
        .collect()
}

fn shown<'a>(quantities: impl IntoIterator<Item = (&'a String, &'a v1::value::Scalar)>) -> String {
    let mut parts: Vec<String> = quantities
        .into_iter()
        .map(|(name, scalar)| format!("{name}:{}", number(scalar.value)))
        .collect();
    parts.sort();
    if parts.is_empty() { "-".to_owned() } else { parts.join("; ") }
}

async fn update(context: &Context, config: QuotaConfig) -> Result<()> {
    let update = call::UpdateQuota { quota_configs: vec![config], ..Default::default() };
    let call = Call { update_quota: Some(update), ..master_call(Type::UpdateQuota) };
    context.client.call(&call).await.map(drop)
}

pub(super) async fn run(context: &Context, command: Quota) -> Result<()> {
    match command {
        Quota::List => {
            let answer = context.client.call(&master_call(Type::GetQuota)).await?;
            let quotas = answer.get_quota.unwrap_or_default();
            if context.json {
                return show::message(&quotas);
            }
            let row = |own: &QuotaConfig| {
                vec![own.role.clone(), shown(&own.guarantees), shown(&own.limits)]
            };
            let rows: Vec<Vec<String>> = quotas.status.configs.iter().map(row).collect();
            show::table(&["ROLE", "GUARANTEES", "LIMITS"], &rows)
        }
        Quota::Set { role, guarantees, limits } => {
            if guarantees.is_none() && limits.is_none() {
                bail!("say what '{role}' gets: --guarantees, --limits, or both");
            }
            let config = QuotaConfig {
                role,
                guarantees: quantities(guarantees.as_deref())?,
                limits: quantities(limits.as_deref())?,
            };
            update(context, config).await
        }
        Quota::Remove { role } => {
            ensure!(!role.is_empty(), "a role has a name");
            let answer = context.client.call(&master_call(Type::GetQuota)).await?;
            let known = answer.get_quota.unwrap_or_default().status.configs;
            if !known.iter().any(|own| own.role == role) {
                bail!("role '{role}' has no quota; `mesos quota list` lists those that have");
            }
            update(context, QuotaConfig { role, ..Default::default() }).await
        }
    }
}
