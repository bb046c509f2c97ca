use super::*;
use proptest::prelude::*;

fn arbitrary() -> impl Strategy<Value = Resources> {
    let entry = (0usize..3, 0u64..5000, prop::sample::select(vec!["*", "a", "a/b"])).prop_map(
        |(kind, amount, role)| {
            let text = match kind {
                0 => format!("cpus({role}):{}.{:03}", amount / 1000, amount % 1000),
                1 => format!("mem({role}):{amount}"),
                _ => {
                    format!("ports({role}):[{}-{}]", 1000 + amount, 1000 + amount + amount % 7)
                }
            };
            Resources::parse(&text, "*").unwrap()
        },
    );
    prop::collection::vec(entry, 0..6).prop_map(|parts| parts.iter().sum())
}

proptest! {
    #[test]
    fn adding_then_subtracting_scalars_gives_back(a in arbitrary(), b in arbitrary()) {
        let mut sum = a.clone();
        sum.add(&b);
        prop_assert!(sum.contains(&a) && sum.contains(&b));
        sum.subtract(&b);
        for (name, value) in a.scalars() {
            prop_assert_eq!(sum.scalars().get(&name).copied().unwrap_or_default(), value);
        }
    }

    #[test]
    fn messages_round_trip(a in arbitrary()) {
        let back = Resources::from_protos(&a.to_protos());
        prop_assert!(back.contains(&a) && a.contains(&back));
    }

    #[test]
    fn allocating_and_unallocating_changes_nothing(a in arbitrary()) {
        let back = a.allocate("r").unallocate();
        prop_assert!(back.contains(&a) && a.contains(&back));
    }
}

#[test]
fn what_is_reserved_goes_to_its_role_and_below() {
    let all = Resources::parse("cpus:1;cpus(a):2;cpus(b):4", "*").unwrap();
    assert_eq!(all.allocatable_to("a/x").cpus(), 3.0);
    assert_eq!(all.allocatable_to("ab").cpus(), 1.0);
    assert_eq!(all.unreserved().cpus(), 1.0);
    assert_eq!(all.reservations()["b"].cpus(), 4.0);
}

#[test]
fn many_small_subtractions_leave_no_dust() {
    let mut left = Resources::parse("cpus:1", "*").unwrap();
    let tenth = Resources::parse("cpus:0.1", "*").unwrap();
    for _ in 0..10 {
        assert!(left.contains(&tenth));
        left.subtract(&tenth);
    }
    assert!(left.is_empty());
}

#[test]
fn resources_print_as_the_original_prints_them() {
    assert_eq!(
        Resources::parse("cpus:0.5;mem:64;ports:[1-2,5-6]", "*").unwrap().to_string(),
        "cpus:0.5; mem:64; ports:[1-2, 5-6]"
    );
    assert_eq!(Resources::new().to_string(), "{}");
}

proptest! {
    /// Unlike scalars, ranges and sets forget what was in both: only what shares nothing comes back whole.
    #[test]
    fn adding_and_subtracting_what_is_elsewhere_changes_nothing(a in arbitrary(), b in arbitrary()) {
        let b = b.allocate("other");
        let mut sum = a.clone();
        sum.add(&b);
        sum.subtract(&b);
        prop_assert_eq!(sum, a);
    }

    #[test]
    fn every_form_reads_as_the_same(a in arbitrary()) {
        prop_assert_eq!(&Resources::from_protos(&a.to_protos()), &a);
        prop_assert_eq!(&Resources::from_protos(&a.to_protos_unrefined()), &a);
        prop_assert_eq!(&Resources::from_protos(&a.to_protos_for_endpoints()), &a);
    }

    #[test]
    fn contains_means_that_nothing_is_lost_by_subtracting(a in arbitrary(), b in arbitrary()) {
        let mut rest = a.clone();
        rest.subtract(&b);
        let mut back = rest.clone();
        back.add(&b);
        prop_assert_eq!(a.contains(&b), a.contains(&back) && back.contains(&a));
    }
}

fn from_json(text: &str) -> Resources {
    Resources::parse(text, "*").unwrap()
}

#[test]
fn volumes_are_kept_one_by_one() {
    let volume = |id: &str| {
        from_json(&format!(
            r#"[{{"name":"disk","type":"SCALAR","scalar":{{"value":64}},"reservations":[{{"type":"DYNAMIC","role":"r"}}],"disk":{{"persistence":{{"id":"{id}"}},"volume":{{"mode":"RW","container_path":"p"}}}}}}]"#
        ))
    };
    let mut both = volume("a");
    both.add(&volume("b"));
    assert_eq!((both.to_protos().len(), both.disk()), (2, 128.0));
    let mut twice = volume("a");
    twice.add(&volume("a"));
    assert!(both.contains(&volume("a")) && !both.contains(&twice) && twice.contains(&twice));
    both.subtract(&volume("a"));
    assert_eq!(both, volume("b"));
    assert_eq!(both.to_string(), "disk(reservations: [(DYNAMIC,r)])[b:p]:64");
}

#[test]
fn the_forms_are_those_of_the_original() {
    use crate::json::{Dialect, to_string};
    let reserved = from_json(
        r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5},"reservations":[{"type":"DYNAMIC","role":"golden","principal":"p"}]}]"#,
    );
    let text = |protos: Vec<v1::Resource>| to_string(&protos[0], Dialect::V0);
    assert_eq!(
        text(reserved.to_protos_for_endpoints()),
        r#"{"name":"cpus","type":"SCALAR","scalar":{"value":0.5},"role":"golden","reservation":{"principal":"p"},"reservations":[{"type":"DYNAMIC","role":"golden","principal":"p"}]}"#
    );
    assert_eq!(
        text(reserved.to_protos_unrefined()),
        r#"{"name":"cpus","type":"SCALAR","scalar":{"value":0.5},"role":"golden","reservation":{"principal":"p"}}"#
    );
    let free = from_json(r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]"#);
    assert!(text(free.to_protos_unrefined()).ends_with(r#""role":"*"}"#));
    assert!(!text(free.to_protos()).contains("role"));
    let refined = from_json(
        r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"STATIC","role":"a"},{"type":"DYNAMIC","role":"a/b"}]}]"#,
    );
    assert!(refined.to_protos_unrefined().is_empty());
}

#[test]
fn state_shows_four_scalars_always_and_the_rest_as_text() {
    let model = |text: &str| {
        let set = from_json(text);
        let shown = serde_json::to_string(&Model::of(&set)).unwrap();
        assert_eq!(serde_json::to_string(&Model::of_protos(&set.to_protos())).unwrap(), shown);
        shown
    };
    assert_eq!(model("[]"), r#"{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":0.0}"#);
    assert_eq!(
        model("cpus:1;cpus(r):0.5;ports:[1-2,5-5];bugs:{b,a}"),
        r#"{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":1.5,"ports":"[1-2, 5-5]","bugs":"{a, b}"}"#
    );
}

#[test]
fn amounts_beyond_all_bounds_stay_at_the_limit() {
    let huge = from_json("cpus:9e15;cpus(r):9e15");
    assert!(huge.cpus() > 9e15);
    assert!(Resources::parse("cpus:1e300", "*").is_err());
    let mut more = huge.clone();
    more.add(&huge);
    assert!(more.contains(&huge) && more.scalars()["cpus"] == Milli(i64::MAX));
}
