//! Quotas: what is refused, what the registry keeps, what becomes of offers.

use mesos::json::{self, Dialect};
use mesos::v1::quota::{QuotaConfig, QuotaRequest};

use super::*;

fn config(text: &str) -> QuotaConfig {
    json::from_slice(text.as_bytes(), Dialect::V1).unwrap()
}

fn refusal(result: Result<(), Refusal>) -> String {
    match result {
        Err(Refusal::BadRequest(text) | Refusal::Conflict(text) | Refusal::NotFound(text)) => text,
        Err(Refusal::Forbidden) | Ok(()) => String::new(),
    }
}

fn in_role(role: &str) -> v1::FrameworkInfo {
    v1::FrameworkInfo { role: Some(role.to_owned()), ..framework_info() }
}

#[test]
fn wrong_quotas_are_refused_in_the_originals_words() {
    let mut test = Test::new();
    test.register();
    for (text, error) in [
        (r#"{"role":"a/b"}"#, "Updating quota on nested role 'a/b' is not supported yet"),
        (
            r#"{"role":"a","guarantees":{"cpus":{"value":2}},"limits":{"cpus":{"value":1}}}"#,
            "Invalid QuotaConfig: 'QuotaConfig.guarantees' { cpus: 2 } is not contained within the 'QuotaConfig.limits' { cpus: 1 }",
        ),
        (
            r#"{"role":"a","guarantees":{"cpus":{"value":-1}}}"#,
            "Invalid QuotaConfig: Invalid guarantee configuration {'cpus': -1}: Negative values not supported",
        ),
        (
            r#"{"role":"a","guarantees":{"cpus":{"value":5}}}"#,
            "Invalid QuotaConfig: total quota guarantees 'cpus:5' exceed cluster capacity 'cpus:4; mem:1024' (use 'force' flag to bypass this check)",
        ),
    ] {
        assert_eq!(refusal(test.master.update_quota(&[config(text)], false)), error);
    }
    assert!(test.master.quotas().is_empty());
    let beyond = config(r#"{"role":"a","guarantees":{"cpus":{"value":5}}}"#);
    test.master.update_quota(&[beyond], true).unwrap();
    assert_eq!(test.master.registry.minimum_capabilities[0].capability, "QUOTA_V2");
    test.master.update_quota(&[config(r#"{"role":"a"}"#)], false).unwrap();
    assert!(test.master.registry.quota_configs.is_empty());
    assert!(test.master.registry.minimum_capabilities.is_empty());
}

#[test]
fn the_older_form_sets_limits_as_well_and_only_once() {
    let mut test = Test::new();
    test.register();
    let request: QuotaRequest = json::from_slice(
        br#"{"role":"a","guarantee":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]}"#,
        Dialect::V1,
    )
    .unwrap();
    test.master.set_quota(&request).unwrap();
    let kept = &test.master.registry.quota_configs[0];
    assert_eq!((kept.guarantees["cpus"].value, kept.limits["cpus"].value), (1.0, 1.0));
    assert_eq!(
        refusal(test.master.set_quota(&request)),
        "Failed to validate set quota request: Cannot set quota for role 'a' which already has quota"
    );
    test.master.remove_quota("a").unwrap();
    assert!(refusal(test.master.remove_quota("a")).ends_with("Role 'a' has no quota set"));
}

#[test]
fn who_is_guaranteed_nothing_has_no_guarantee() {
    let mut test = Test::new();
    let nothing =
        config(r#"{"role":"a","guarantees":{"cpus":{"value":0}},"limits":{"cpus":{"value":0}}}"#);
    test.master.update_quota(&[nothing], false).unwrap();
    let status = test.master.quota_status();
    assert!(status.infos[0].guarantee.is_empty() && status.configs[0].guarantees.is_empty());
    assert_eq!(status.configs[0].limits["cpus"].value, 0.0);
    let negative = config(r#"{"role":"b","limits":{"cpus":{"value":-1}}}"#);
    assert_eq!(
        refusal(test.master.update_quota(&[negative], false)),
        "Invalid QuotaConfig: Invalid limit configuration {'cpus': -1}: Negative values not supported"
    );
}

#[test]
fn quotas_hold_after_a_failover_and_bound_what_is_offered() {
    let mut test = Test::new();
    test.register();
    test.master
        .update_quota(&[config(r#"{"role":"a","limits":{"cpus":{"value":1}}}"#)], false)
        .unwrap();
    let mut registry = test.master.registry.clone();
    registry.slaves = None;
    let mut test = Test::with_registry(registry);
    test.register();
    test.subscribe(in_role("a"));
    let offered = mesos::resources::Resources::from_protos(&test.offer().resources);
    assert_eq!((offered.cpus(), offered.mem()), (1.0, 1024.0));
    let used = config(r#"{"role":"a","limits":{"cpus":{"value":0.5}}}"#);
    test.master.update_quota(&[used], false).unwrap();
    test.settle();
    assert_eq!(test.events(event::Type::Rescind).len(), 1, "more than the new limit");
    let offered = mesos::resources::Resources::from_protos(&test.offer().resources);
    assert_eq!(offered.cpus(), 0.5);
}

#[test]
fn what_a_role_uses_is_consumed() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(in_role("a"));
    test.launch(stream, vec![task("t")]);
    assert_eq!(test.master.consumed_quota("a").to_string(), "cpus:1; mem:128");
    let too_little = config(r#"{"role":"a","limits":{"cpus":{"value":0.5}}}"#);
    assert_eq!(
        refusal(test.master.update_quota(&[too_little], false)),
        "Invalid QuotaConfig: Role 'a' is already consuming 'cpus:1; mem:128'; this is more than the requested limits 'cpus:0.5' (use 'force' flag to bypass this check)"
    );
}
