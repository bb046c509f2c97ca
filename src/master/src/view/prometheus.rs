//! `/metrics/prometheus`, which the original has not: what `/metrics/snapshot` says, under names that Prometheus can take.
//! What is between slashes there is a name's part here, but frameworks, principals, roles and resources are labels:
//! `allocator/mesos/roles/dev/shares/dominant` is `mesos_allocator_mesos_roles_shares_dominant{role="dev"}`.

use web::prometheus::Families;

use super::metrics::Snapshot;

/// The metrics of a snapshot.
pub fn families(snapshot: &Snapshot) -> Families {
    let mut families = Families::default();
    for (name, value) in snapshot {
        let (name, labels) = labelled(name);
        families.add(&format!("mesos_{name}"), &labels, *value);
    }
    families
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Takes what is different for each framework, role and so on out of a name.
fn labelled(name: &str) -> (String, Labels<'_>) {
    if let Some(rest) = name.strip_prefix("master/frameworks/")
        && let Some((framework, rest)) = rest.split_once('/')
        && let Some((id, rest)) = rest.split_once('/')
    {
        let (rest, mut labels) = role(rest);
        labels.splice(0..0, [("framework", framework), ("framework_id", id)]);
        return (format!("master/frameworks/{rest}"), labels);
    }
    if let Some(rest) = name.strip_prefix("frameworks/")
        && let Some((principal, rest)) = rest.rsplit_once('/')
    {
        return (format!("frameworks/{rest}"), vec![("principal", principal)]);
    }
    if let Some(rest) = name.strip_prefix("allocator/mesos/quota/")
        && let Some((above, kind)) = rest.rsplit_once('/')
        && let Some((above, resource)) = above.rsplit_once("/resources/")
        && let Some(role) = above.strip_prefix("roles/")
    {
        let labels = vec![("role", role), ("resource", resource)];
        return (format!("allocator/mesos/quota/roles/resources/{kind}"), labels);
    }
    if let Some(rest) = name.strip_prefix("allocator/mesos/resources/")
        && let Some((resource, kind)) = rest.split_once('/')
    {
        return (format!("allocator/mesos/resources/{kind}"), vec![("resource", resource)]);
    }
    role(name)
}

/// A role's name has slashes of its own; what comes after it is known.
fn role(name: &str) -> (String, Labels<'_>) {
    for end in ["/shares/dominant", "/active", "/suppressed"] {
        if let Some(rest) = name.strip_suffix(end)
            && let Some((before, role)) = rest.split_once("roles/")
        {
            return (format!("{before}roles{end}"), vec![("role", role)]);
        }
    }
    (name.to_owned(), Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_are_many_of_is_in_labels() {
        let names = [
            "allocator/mesos/allocation_run_ms/p99",
            "allocator/mesos/offer_filters/roles/a/b/active",
            "allocator/mesos/quota/roles//resources/cpus/consumed",
            "allocator/mesos/quota/roles/a/resources/mem/limit",
            "allocator/mesos/resources/cpus/total",
            "allocator/mesos/roles/*/shares/dominant",
            "frameworks/golden-principal/messages_received",
            "master/frameworks/my%20name/id-0000/calls/accept",
            "master/frameworks/n/id-0000/roles/a/b/suppressed",
            "master/slave_removals/reason_registered",
        ];
        let snapshot = names.iter().map(|name| ((*name).to_owned(), 1.0)).collect();
        let text = families(&snapshot).text();
        let samples: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("mesos_")?.strip_suffix(" 1"))
            .collect();
        assert_eq!(
            samples,
            [
                "allocator_mesos_allocation_run_ms_p99",
                r#"allocator_mesos_offer_filters_roles_active{role="a/b"}"#,
                r#"allocator_mesos_quota_roles_resources_consumed{role="",resource="cpus"}"#,
                r#"allocator_mesos_quota_roles_resources_limit{role="a",resource="mem"}"#,
                r#"allocator_mesos_resources_total{resource="cpus"}"#,
                r#"allocator_mesos_roles_shares_dominant{role="*"}"#,
                r#"frameworks_messages_received{principal="golden-principal"}"#,
                r#"master_frameworks_calls_accept{framework="my%20name",framework_id="id-0000"}"#,
                r#"master_frameworks_roles_suppressed{framework="n",framework_id="id-0000",role="a/b"}"#,
                "master_slave_removals_reason_registered",
            ]
        );
    }
}
