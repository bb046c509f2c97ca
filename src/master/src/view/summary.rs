//! `/state-summary` and `/tasks`: what is counted and listed over all agents and frameworks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mesos::model::{List, Members, Task};
use mesos::v1::{self, TaskState};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::seen::{Seen, Sight};
use super::state::{Used, framework_head, offered, slave};
use crate::core::Master;
use crate::core::model::{Agent, Framework, is_terminal};
use crate::core::scene::Scene;

/// What `/tasks` is asked for.
#[derive(Debug, Default)]
pub struct TaskQuery {
    /// At most so many.
    pub limit: Option<usize>,
    /// After leaving out so many.
    pub offset: usize,
    /// Oldest first.
    pub ascending: bool,
    /// Only of this framework.
    pub framework: Option<String>,
    /// Only this one.
    pub task: Option<String>,
}

/// `/tasks`: newest first by first status unless asked otherwise.
pub fn tasks<S: Serializer>(
    serializer: S,
    sight: Sight<'_>,
    query: &TaskQuery,
) -> Result<S::Ok, S::Error> {
    let mut all: Vec<&v1::Task> = sight
        .all_frameworks()
        .filter(|known| query.framework.as_ref().is_none_or(|id| known.id == *id))
        .flat_map(|known| sight.of_tasks(known, all_tasks(known)))
        .filter(|task| query.task.as_ref().is_none_or(|id| task.task_id.value == *id))
        .collect();
    let first = |task: &v1::Task| {
        task.statuses.first().and_then(|status| status.timestamp).unwrap_or_default()
    };
    all.sort_by(|a, b| {
        if query.ascending { first(a).total_cmp(&first(b)) } else { first(b).total_cmp(&first(a)) }
    });
    let limit = query.limit.unwrap_or(100);
    let shown = || all.iter().skip(query.offset).take(limit).map(|task| Task(task));
    Members(|| [("tasks", List(shown))]).serialize(serializer)
}

/// `/allocator/offer_constraints_debug`.
pub fn constraints(master: &Master, seen: &dyn Seen) -> Value {
    let frameworks: Map<String, Value> = master
        .frameworks
        .values()
        .filter(|framework| seen.framework(&framework.info))
        .map(|framework| {
            let id = &framework.id;
            let excluded = master.allocator.excluded_by_constraints(id);
            let suppressed = master.allocator.suppressed(id);
            (
                id.clone(),
                json!({"suppressed_roles": suppressed, "excluded_by_attribute_constraints": excluded}),
            )
        })
        .collect();
    json!({"frameworks": frameworks})
}

/// Writes how many of these tasks are in each state.
fn counts<'a, M: SerializeMap>(
    object: &mut M,
    tasks: impl Iterator<Item = &'a v1::Task>,
) -> Result<(), M::Error> {
    let mut by_state: BTreeMap<&'static str, u64> = BTreeMap::new();
    for task in tasks {
        *by_state.entry(task.state().as_str_name()).or_default() += 1;
    }
    use TaskState as S;
    for state in [
        S::TaskStaging,
        S::TaskStarting,
        S::TaskRunning,
        S::TaskKilling,
        S::TaskFinished,
        S::TaskKilled,
        S::TaskFailed,
        S::TaskLost,
        S::TaskError,
        S::TaskUnreachable,
    ] {
        let name = state.as_str_name();
        object.serialize_entry(name, by_state.get(name).unwrap_or(&0))?;
    }
    Ok(())
}

/// What runs or ran on an agent, and of which frameworks.
type OnAgent<'a> = (Vec<&'a v1::Task>, BTreeSet<&'a str>);

/// An agent, with how many tasks it has.
struct Counted<'a> {
    sight: Sight<'a>,
    agent: &'a Agent,
    used: &'a Used<'a>,
    has: Option<&'a OnAgent<'a>>,
}

impl Serialize for Counted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        slave(&mut object, self.sight, self.agent, self.used)?;
        let tasks = self.has.into_iter().flat_map(|(tasks, _)| tasks.iter().copied());
        counts(&mut object, tasks)?;
        let ids = || self.has.into_iter().flat_map(|(_, ids)| ids);
        object.serialize_entry("framework_ids", &List(ids))?;
        object.end()
    }
}

/// A framework, with how many tasks it has.
struct Outline<'a> {
    scene: &'a Scene,
    framework: &'a Framework,
}

impl Serialize for Outline<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = self.framework;
        let mut object = serializer.serialize_map(None)?;
        let offered = offered(self.scene, known.offers.keys());
        framework_head(&mut object, known, &known.used(None), &offered)?;
        counts(&mut object, all_tasks(known))?;
        let live = known.tasks.values().filter(|task| !is_terminal(task.state()));
        let ids: BTreeSet<&String> = live.map(|task| &task.agent_id.value).collect();
        object.serialize_entry("slave_ids", &ids)?;
        object.end()
    }
}

/// `/state-summary`.
pub fn summary<S: Serializer>(
    serializer: S,
    sight: Sight<'_>,
    flags: &BTreeMap<&'static str, String>,
) -> Result<S::Ok, S::Error> {
    let scene = sight.scene;
    let mut of_agent: HashMap<&str, OnAgent<'_>> = HashMap::new();
    for known in scene.frameworks.values() {
        for task in all_tasks(known) {
            let (tasks, frameworks) = of_agent.entry(&task.agent_id.value).or_default();
            tasks.push(task);
            frameworks.insert(&known.id);
        }
    }
    let used = Used::of(scene.frameworks.values());
    let counted = || {
        scene.agents.values().map(|agent| {
            let has = of_agent.get(agent.id.as_str());
            Counted { sight, agent, used: &used, has }
        })
    };
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("hostname", scene.info.hostname())?;
    if let Some(cluster) = flags.get("cluster") {
        object.serialize_entry("cluster", cluster)?;
    }
    object.serialize_entry("slaves", &List(counted))?;
    let outline = |framework| Outline { scene, framework };
    object.serialize_entry("frameworks", &List(|| sight.frameworks().map(outline)))?;
    object.end()
}

fn all_tasks(framework: &Framework) -> impl Iterator<Item = &v1::Task> {
    framework
        .tasks
        .values()
        .chain(framework.unreachable.values())
        .chain(framework.completed_tasks())
}
