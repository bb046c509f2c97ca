//! What an agent offers beyond what it has (`resource_estimators/fixed.cpp`): the original's fixed estimator, chosen by
//! the name and configured by the parameters of its module, though no library is loaded for it.

use anyhow::{Context as _, bail, ensure};
use mesos::flags::Values;
use mesos::resources::Resources;
use mesos::v1;

use super::modules;

const FIXED: &str = "org_apache_mesos_FixedResourceEstimator";

/// The revocable resources that an operator chose; none without `--resource_estimator`.
pub(super) fn check(values: &Values) -> anyhow::Result<Vec<v1::Resource>> {
    match values.text("resource_estimator") {
        None => return Ok(Vec::new()),
        Some(FIXED) => {}
        Some(other) => bail!(
            "--resource_estimator: '{other}' is not supported by this agent: there is {FIXED}"
        ),
    }
    let text = modules::parameter(values, FIXED, "resources")
        .with_context(|| format!("--modules: {FIXED} needs the parameter 'resources'"))?;
    let resources = Resources::parse(&text, "*")
        .map_err(|error| anyhow::anyhow!("--modules: 'resources' of {FIXED}: {error}"))?;
    ensure!(resources.reservations().is_empty(), "--modules: '{text}' must be unreserved");
    let revocable = v1::resource::RevocableInfo::default();
    let each = resources.to_protos().into_iter();
    Ok(each.map(|own| v1::Resource { revocable: Some(revocable), ..own }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flags: &[String]) -> Result<Vec<v1::Resource>, String> {
        let given = ["--master=127.0.0.1:5050", "--work_dir=/w"].map(str::to_owned);
        let all = given.into_iter().chain(flags.iter().cloned());
        let values = crate::flags::table().load(all, std::iter::empty()).unwrap();
        check(&values).map_err(|error| format!("{error:#}"))
    }

    fn modules(name: &str, key: &str, value: &str) -> String {
        format!(
            r#"--modules={{"libraries": [{{"file": "libfixed_resource_estimator.so", "modules": [{{"name": "{name}", "parameters": [{{"key": "{key}", "value": "{value}"}}]}}]}}]}}"#
        )
    }

    #[test]
    fn the_fixed_estimator_is_built_in_and_others_are_refused_by_name() {
        let chosen = format!("--resource_estimator={FIXED}");
        let found = of(&[chosen.clone(), modules(FIXED, "resources", "cpus:2;mem:64")]).unwrap();
        assert!(found.len() == 2 && found.iter().all(|own| own.revocable.is_some()));
        assert_eq!(of(&[]).unwrap(), []);
        for (flags, expected) in [
            (vec![chosen.clone()], "needs the parameter 'resources'"),
            (vec![chosen.clone(), modules(FIXED, "resources", "cpus")], "'resources' of"),
            (vec!["--resource_estimator=x".to_owned()], "'x' is not supported"),
        ] {
            let text = of(&flags).unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
    }
}
