//! `--modules`: what operators configured for modules of the original that are built in here, though no library is loaded
//! for them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use mesos::flags::Values;
use serde_json::Value;

/// Those that there are.
const BUILT_IN: [&str; 2] =
    ["org_apache_mesos_FixedResourceEstimator", "org_apache_mesos_LoadQoSController"];

/// What an operator configured: `--modules`, or each file of `--modules_dir`, by name.
fn manifests(values: &Values) -> anyhow::Result<Vec<Value>> {
    let Some(directory) = values.text("modules_dir").filter(|path| !path.is_empty()) else {
        return Ok(values.json("modules").into_iter().collect());
    };
    ensure!(
        !values.is_given("modules"),
        "Only one of --modules or --modules_dir should be specified"
    );
    let named = |path: &Path| format!("--modules_dir: {}", path.display());
    let directory = Path::new(directory);
    let entries = fs::read_dir(directory).with_context(|| named(directory))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| named(directory))?;
    paths.retain(|path| path.is_file());
    paths.sort();
    let read = |path: &PathBuf| {
        let content = fs::read(path).with_context(|| named(path))?;
        serde_json::from_slice(&content).with_context(|| named(path))
    };
    paths.iter().map(read).collect()
}

fn all(values: &Values) -> anyhow::Result<Vec<Value>> {
    let manifests = manifests(values)?;
    let libraries = manifests.iter().filter_map(|own| own["libraries"].as_array()).flatten();
    Ok(libraries.filter_map(|library| library["modules"].as_array()).flatten().cloned().collect())
}

/// Refuses modules that there are none of.
pub(super) fn check(values: &Values) -> anyhow::Result<()> {
    let is_there = |module: &Value| BUILT_IN.iter().any(|name| module["name"] == *name);
    if let Some(other) = all(values)?.iter().find(|module| !is_there(module)) {
        bail!(
            "--modules: {} is not supported by this agent: native modules can't be loaded into it; there are {}",
            other["name"],
            BUILT_IN.join(" and ")
        );
    }
    Ok(())
}

/// A parameter of a module, if it is given.
pub(super) fn parameter(values: &Values, module: &str, key: &str) -> Option<String> {
    // What can't be read was refused at the start.
    let all = all(values).ok()?;
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

    #[test]
    fn a_directory_of_manifests_is_as_good() {
        let directory = tempfile::TempDir::new().unwrap();
        let of = |more: &[&str]| {
            let flag = format!("--modules_dir={}", directory.path().display());
            let given = ["--master=127.0.0.1:5050", "--work_dir=/w", &flag];
            let given = given.iter().chain(more).map(|own| (*own).to_owned());
            crate::flags::table().load(given, std::iter::empty()).unwrap()
        };
        check(&of(&[])).unwrap();
        let one = |name: &str| {
            format!(
                r#"{{"libraries":[{{"modules":[{{"name":"{name}","parameters":[{{"key":"a","value":"b"}}]}}]}}]}}"#
            )
        };
        std::fs::write(directory.path().join("1"), one(BUILT_IN[0])).unwrap();
        check(&of(&[])).unwrap();
        assert_eq!(parameter(&of(&[]), BUILT_IN[0], "a").as_deref(), Some("b"));
        let both = check(&of(&["--modules={}"])).unwrap_err().to_string();
        assert!(both.starts_with("Only one of --modules or"), "{both}");
        std::fs::write(directory.path().join("2"), one("x")).unwrap();
        assert!(check(&of(&[])).unwrap_err().to_string().contains("native modules"));
        std::fs::write(directory.path().join("2"), "{").unwrap();
        assert!(check(&of(&[])).unwrap_err().to_string().ends_with("/2"));
    }
}
