//! `--modules`: what operators configured for modules of the original that are built in here, though no library is loaded
//! for them.

use anyhow::bail;
use mesos::flags::Values;
use serde_json::Value;

/// Those that there are.
const BUILT_IN: [&str; 2] =
    ["org_apache_mesos_FixedResourceEstimator", "org_apache_mesos_LoadQoSController"];

fn all(values: &Values) -> Vec<Value> {
    let modules = values.json("modules").unwrap_or_default();
    let libraries = modules["libraries"].as_array().into_iter().flatten();
    libraries.filter_map(|library| library["modules"].as_array()).flatten().cloned().collect()
}

/// Refuses modules that there are none of.
pub(super) fn check(values: &Values) -> anyhow::Result<()> {
    let is_there = |module: &Value| BUILT_IN.iter().any(|name| module["name"] == *name);
    if let Some(other) = all(values).iter().find(|module| !is_there(module)) {
        bail!(
            "--modules: {} is not supported by this agent: there are {}",
            other["name"],
            BUILT_IN.join(" and ")
        );
    }
    Ok(())
}

/// A parameter of a module, if it is given.
pub(super) fn parameter(values: &Values, module: &str, key: &str) -> Option<String> {
    let all = all(values);
    let own = all.iter().filter(|own| own["name"] == module);
    let mut parameters = own.filter_map(|own| own["parameters"].as_array()).flatten();
    let found = parameters.find(|own| own["key"] == key)?;
    found["value"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_built_in_is_refused_by_name() {
        let of = |name: &str| {
            let modules = format!(
                r#"--modules={{"libraries": [{{"modules": [{{"name": "{name}", "parameters": [{{"key": "a", "value": "b"}}]}}]}}]}}"#
            );
            let given = ["--master=127.0.0.1:5050", "--work_dir=/w", &modules].map(str::to_owned);
            crate::flags::table().load(given, std::iter::empty()).unwrap()
        };
        let text = check(&of("other")).unwrap_err().to_string();
        assert!(text.starts_with("--modules: \"other\" is not supported by this agent"), "{text}");
        let values = of(BUILT_IN[1]);
        check(&values).unwrap();
        assert_eq!(parameter(&values, BUILT_IN[1], "a").as_deref(), Some("b"));
        assert_eq!(parameter(&values, BUILT_IN[0], "a"), None, "another's");
    }
}
