//! Which system calls a container's processes may make: profiles in Docker's format (`linux/seccomp/seccomp_parser.cpp`),
//! as programs for the kernel.
//!
//! A profile has an action for all calls and others for some. The kernel takes the strictest answer of all programs that
//! are loaded: the first program has the action for all and lets through whatever the profile names; each of the
//! others has one of the other actions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mesos::v1::capability_info::Capability;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde::Deserialize;
use syscalls::Sysno;

use super::CAPABILITY_BASE;

const PROFILE_MAX: u64 = 1 << 20;
const EPERM: u32 = 1;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Action,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Calls>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
}

impl Action {
    fn of_kernel(self, errno: Option<u32>) -> SeccompAction {
        match self {
            Self::Allow => SeccompAction::Allow,
            Self::Errno => SeccompAction::Errno(errno.unwrap_or(EPERM)),
            Self::KillThread => SeccompAction::KillThread,
            Self::KillProcess => SeccompAction::KillProcess,
            Self::Trap => SeccompAction::Trap,
            Self::Log => SeccompAction::Log,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    /// The form of before Docker 1.13.
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: Action,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Comparison,
}

#[derive(Deserialize, Clone, Copy)]
enum Comparison {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// When a rule is one.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// The container and the host that a profile is for.
struct Place {
    /// Bits of the capabilities that a process may have.
    capabilities: u64,
    arch: &'static str,
    /// Its first two numbers.
    kernel: (u32, u32),
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|own: char| !own.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

impl Place {
    fn here(capabilities: u64) -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { capabilities, arch, kernel: version(&release).unwrap_or((3, 10)) }
    }

    fn has(&self, capability: &str) -> bool {
        let name = capability.strip_prefix("CAP_").unwrap_or(capability);
        Capability::from_str_name(name).is_some_and(|own| {
            self.capabilities >> (own as i32 - CAPABILITY_BASE).clamp(0, 63) & 1 == 1
        })
    }

    fn is_new(&self, wanted: &str) -> bool {
        version(wanted).is_none_or(|wanted| self.kernel >= wanted)
    }

    /// Whether a rule counts, as Docker decides it.
    fn takes(&self, own: &Calls) -> bool {
        let Calls { includes, excludes, .. } = own;
        let is_excluded = excludes.caps.iter().any(|name| self.has(name))
            || excludes.arches.iter().any(|name| name == self.arch)
            || excludes.min_kernel.as_ref().is_some_and(|wanted| self.is_new(wanted));
        let is_included = includes.caps.iter().all(|name| self.has(name))
            && (includes.arches.is_empty() || includes.arches.iter().any(|name| name == self.arch))
            && includes.min_kernel.as_ref().is_none_or(|wanted| self.is_new(wanted));
        is_included && !is_excluded
    }
}

/// Rules by number of the system call; none of a call means that it is meant whatever its arguments are.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn add(rules: &mut Rules, number: i64, own: &Calls) -> Result<(), String> {
    let arguments = own.args.as_deref().unwrap_or_default();
    if arguments.is_empty() {
        rules.insert(number, Vec::new());
        return Ok(());
    }
    if rules.get(&number).is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let conditions = arguments.iter().map(|own| {
        let (operator, value) = match own.op {
            Comparison::Ne => (SeccompCmpOp::Ne, own.value),
            Comparison::Lt => (SeccompCmpOp::Lt, own.value),
            Comparison::Le => (SeccompCmpOp::Le, own.value),
            Comparison::Eq => (SeccompCmpOp::Eq, own.value),
            Comparison::Ge => (SeccompCmpOp::Ge, own.value),
            Comparison::Gt => (SeccompCmpOp::Gt, own.value),
            Comparison::MaskedEq => (SeccompCmpOp::MaskedEq(own.value), own.value_two),
        };
        SeccompCondition::new(own.index, SeccompCmpArgLen::Qword, operator, value)
    });
    let conditions =
        conditions.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let rule = SeccompRule::new(conditions).map_err(|error| error.to_string())?;
    rules.entry(number).or_default().push(rule);
    Ok(())
}

fn compile(profile: &Profile, place: &Place) -> Result<Vec<BpfProgram>, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let default = profile.default_action.of_kernel(profile.default_errno_ret);
    let mut named = Rules::new();
    let mut others: Vec<(SeccompAction, Rules)> = Vec::new();
    for own in profile.syscalls.iter().filter(|own| place.takes(own)) {
        let action = own.action.of_kernel(own.errno_ret);
        if action == default {
            continue;
        }
        for name in own.names.iter().chain(&own.name) {
            // Profiles name calls of all machines.
            let Ok(call) = name.parse::<Sysno>() else { continue };
            add(&mut named, i64::from(call.id()), own)?;
            if action != SeccompAction::Allow {
                let known = others.iter_mut().find(|(known, _)| *known == action);
                let rules = match known {
                    Some((_, rules)) => rules,
                    None => {
                        others.push((action.clone(), Rules::new()));
                        let Some((_, rules)) = others.last_mut() else { continue };
                        rules
                    }
                };
                add(rules, i64::from(call.id()), own)?;
            }
        }
    }
    let mut programs = Vec::new();
    let mut compiled = |rules: Rules, mismatch: SeccompAction, matched: SeccompAction| {
        let filter = SeccompFilter::new(rules, mismatch, matched, arch);
        let program = filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string())?;
        programs.push(program);
        Ok::<_, String>(())
    };
    if default != SeccompAction::Allow {
        compiled(named, default, SeccompAction::Allow)?;
    }
    for (action, rules) in others {
        compiled(rules, SeccompAction::Allow, action)?;
    }
    Ok(programs)
}

fn read(path: &Path) -> Result<Profile, String> {
    let named = |reason: &dyn std::fmt::Display| {
        format!("Failed to parse Seccomp profile '{}': {reason}", path.display())
    };
    let size = fs::metadata(path).map_err(|error| named(&error))?.len();
    if size > PROFILE_MAX {
        return Err(named(&"it is too large"));
    }
    let content = fs::read(path).map_err(|error| named(&error))?;
    serde_json::from_slice(&content).map_err(|error| named(&error))
}

/// The programs of the profile in a file, in the order in which they are to be loaded, for processes with these
/// capabilities.
///
/// # Errors
/// What is wrong with it, and with which file.
pub(in crate::containerizer) fn load(
    path: &Path,
    capabilities: u64,
) -> Result<Vec<BpfProgram>, String> {
    compile(&read(path)?, &Place::here(capabilities))
        .map_err(|reason| format!("Seccomp profile '{}': {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(profile: &serde_json::Value, capabilities: u64) -> Vec<usize> {
        let profile: Profile = serde_json::from_value(profile.clone()).unwrap();
        let place = Place { capabilities, arch: "amd64", kernel: (4, 8) };
        compile(&profile, &place).unwrap().iter().map(Vec::len).collect()
    }

    #[test]
    fn rules_count_where_they_are_for_and_each_action_has_its_program() {
        let with = |rule: &serde_json::Value| serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]});
        let rule =
            serde_json::json!({"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"});
        let (none, one) = (
            programs(&with(&serde_json::json!({"names": [], "action": "SCMP_ACT_ALLOW"})), 0),
            programs(&with(&rule), 0),
        );
        assert!(one.len() == 1 && one > none);
        for (member, condition, is_taken) in [
            ("includes", serde_json::json!({"caps": ["CAP_KILL"]}), false),
            ("excludes", serde_json::json!({"caps": ["CAP_KILL"]}), true),
            ("includes", serde_json::json!({"caps": ["CAP_CHOWN"]}), true),
            ("excludes", serde_json::json!({"caps": ["CAP_CHOWN"]}), false),
            ("includes", serde_json::json!({"arches": ["s390x"]}), false),
            ("includes", serde_json::json!({"minKernel": "4.8"}), true),
            ("includes", serde_json::json!({"minKernel": "5.1"}), false),
        ] {
            let mut rule = rule.clone();
            rule[member] = condition;
            assert_eq!(programs(&with(&rule), 1) == one, is_taken, "{rule}");
        }
        let mut rule = rule.clone();
        rule["action"] = serde_json::json!("SCMP_ACT_KILL_PROCESS");
        assert_eq!(programs(&with(&rule), 0).len(), 2);
        rule["action"] = serde_json::json!("SCMP_ACT_ERRNO");
        rule["errnoRet"] = serde_json::json!(38);
        assert_eq!(programs(&with(&rule), 0).len(), 2, "another error");
        rule["args"] = serde_json::json!([{"index": 0, "value": 7, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]);
        assert_eq!(programs(&with(&rule), 0).len(), 2);
        let open = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []});
        assert!(programs(&open, 0).is_empty());
    }

    #[test]
    fn a_profile_that_is_none_is_refused_with_its_file() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("p.json");
        for text in ["", "{}", r#"{"defaultAction": "SCMP_ACT_FLY"}"#] {
            fs::write(&path, text).unwrap();
            let refused = load(&path, 0).unwrap_err();
            assert!(refused.contains("p.json': "), "{refused}");
        }
        assert!(load(&directory.path().join("none"), 0).unwrap_err().contains("No such file"));
    }
}
