//! Handles of `net_cls`: by the number that the kernel gives a container's packets operators find them in their own
//! rules. The upper half is the operator's, the lower a free one of those that he leaves to containers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Which handles there are, and whose they are.
#[derive(Debug)]
pub struct Handles {
    primary: u16,
    /// First and last.
    secondaries: (u16, u16),
    held: Mutex<BTreeMap<String, u32>>,
}

/// `0x10` or `16`.
fn number(text: &str) -> Option<u16> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

impl Handles {
    /// From `--cgroups_net_cls_primary_handle` and `--cgroups_net_cls_secondary_handles`.
    ///
    /// # Errors
    /// What is wrong with them, in the original's words.
    pub fn parse(primary: &str, secondaries: Option<&str>) -> Result<Self, String> {
        let number_of_primary = number(primary).ok_or_else(|| {
            format!("Failed to parse the primary handle '{primary}' set in flag --cgroups_net_cls_primary_handle")
        })?;
        let secondaries = match secondaries {
            None => (1, u16::MAX),
            Some(text) => {
                let wrong = |what: &str| {
                    format!(
                        "Failed to parse {what} '{text}' set in flag --cgroups_net_cls_secondary_handles"
                    )
                };
                let bound = |which: &str, bound: &str| {
                    let what = format!("the {which} bound of range of secondary handles");
                    number(bound).ok_or_else(|| wrong(&what))
                };
                let parts: Vec<&str> = text.split(',').filter(|part| !part.is_empty()).collect();
                let [lower, upper] = parts[..] else {
                    return Err(wrong("the range of secondary handles"));
                };
                let (lower, upper) = (bound("lower", lower)?, bound("upper", upper)?);
                if lower == 0 {
                    return Err("The secondary handle has to be a non-zero value.".to_owned());
                }
                if upper < lower {
                    return Err(format!(
                        "Secondary handle range specified '{text}', in flag --cgroups_net_cls_secondary_handles, is an empty set"
                    ));
                }
                (lower, upper)
            }
        };
        Ok(Self { primary: number_of_primary, secondaries, held: Mutex::default() })
    }

    /// Notes a handle that a container has from the agent before.
    pub fn keep(&self, container: &str, handle: u32) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(container.to_owned(), handle);
    }

    /// A free handle for a container.
    ///
    /// # Errors
    /// When there is none left.
    pub fn take(&self, container: &str) -> Result<u32, String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let primary = u32::from(self.primary) << 16;
        let (lower, upper) = self.secondaries;
        let mut all = (lower..=upper).map(|secondary| primary | u32::from(secondary));
        let free = all.find(|handle| !held.values().any(|own| own == handle)).ok_or_else(|| {
            let primary = self.primary;
            format!("Failed to allocate a net_cls handle: No free handles remaining for primary handle {primary:#x}")
        })?;
        held.insert(container.to_owned(), free);
        Ok(free)
    }

    /// A container is gone.
    pub fn free(&self, container: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_has_a_handle_of_its_own_until_it_is_gone() {
        let handles = Handles::parse("0x12", Some("0x1,2")).unwrap();
        handles.keep("before", 0x12_0001);
        assert_eq!(handles.take("a"), Ok(0x12_0002));
        assert!(handles.take("b").unwrap_err().ends_with("primary handle 0x12"));
        handles.free("before");
        assert_eq!(handles.take("b"), Ok(0x12_0001));
        assert_eq!(Handles::parse("16", None).unwrap().take("a"), Ok(0x10_0001));
    }

    #[test]
    fn what_is_wrong_with_handles_is_said() {
        for (primary, secondaries, expected) in [
            ("x", None, "the primary handle 'x'"),
            ("1", Some("1"), "the range of secondary handles '1'"),
            ("1", Some("x,2"), "the lower bound"),
            ("1", Some("1,70000"), "the upper bound"),
            ("1", Some("0,2"), "non-zero"),
            ("1", Some("3,2"), "is an empty set"),
        ] {
            let text = Handles::parse(primary, secondaries).unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
    }
}
