//! Agents register, and register again: admission to the registry, what runs there, what is told back.

use std::collections::BTreeSet;

use mesos::internal::{self, registry};
use mesos::libprocess::Upid;
use mesos::resources::Resources;
use mesos::v1;

use super::agents::observer_id;
use super::copies::Copies;
use super::model::{Agent, Away, Connection, End, Framework, Now, is_terminal};
use super::{Effect, Master};

impl Master {
    pub(super) fn register(
        &mut self,
        now: Now,
        from: &Upid,
        message: internal::RegisterSlaveMessage,
    ) {
        if !self.check_agent(from) {
            return;
        }
        let total = match total(&message.slave, &message.checkpointed_resources) {
            Ok(total) => total,
            Err(error) => {
                tracing::warn!(%from, error, "agent refused: its resources are not valid");
                return;
            }
        };
        if !self.may_register(from, &message.slave) {
            return;
        }
        // An agent that did not hear our answer asks again.
        if let Some(id) = self.agents_by_pid.get(from).cloned() {
            let again = self.agents.get(&id).is_some_and(|known| {
                known.connected && known.info.hostname == message.slave.hostname
            });
            if again {
                self.effects.push(Effect::Relink(from.clone()));
                self.acknowledge_registration(&id);
                return;
            }
            self.remove_agent(now, &id, "a new agent registered at the same address");
        }
        let id = mesos::ids::agent(&self.info.id, self.next_agent);
        self.next_agent += 1;
        let mut info = message.slave;
        info.id = Some(v1::AgentId { value: id.clone() });
        self.enroll(registry::Slave { info: info.clone(), ..Default::default() });
        self.store();
        self.count("master/slave_registrations");
        tracing::info!(agent = id, %from, hostname = info.hostname, "agent registered");
        self.admit(
            now,
            from,
            info,
            message.version,
            message.agent_capabilities,
            message.resource_version_uuid,
            total,
            &[],
            0.0,
        );
        self.effects.push(Effect::Relink(from.clone()));
        self.acknowledge_registration(&id);
    }

    /// Whether an agent may be there; one that may not is told to go.
    fn may_register(&mut self, from: &Upid, info: &v1::AgentInfo) -> bool {
        if self.is_down(&info.hostname, from.address.ip()) {
            tracing::warn!(%from, "agent refused: its machine is down for maintenance");
            let message = Some("Machine is `DOWN`".to_owned());
            self.send(from, &internal::ShutdownMessage { message });
            return false;
        }
        let has_domain = info.domain.as_ref().is_some_and(|domain| domain.fault_domain.is_some());
        if self.settings.require_agent_domain && !has_domain {
            tracing::warn!(%from, "agent ignored: it has no fault domain (--require_agent_domain)");
            return false;
        }
        // Without a region of its own the master can't tell which agents are far away.
        if has_domain && self.settings.allocator.region.is_none() {
            tracing::warn!(%from, "agent ignored: it has a fault domain, and this master none (--domain)");
            return false;
        }
        true
    }

    fn acknowledge_registration(&mut self, id: &str) {
        let Some(agent) = self.agents.get(id) else { return };
        let pid = agent.pid.clone();
        let message = internal::SlaveRegisteredMessage {
            slave_id: v1::AgentId { value: id.to_owned() },
            connection: Some(self.connection()),
        };
        self.send(&pid, &message);
        self.ping_for_the_first_time(id);
    }

    fn connection(&self) -> internal::MasterSlaveConnection {
        let total = self.settings.agent_ping_timeout * self.settings.max_agent_ping_timeouts;
        internal::MasterSlaveConnection { total_ping_timeout_seconds: Some(total.as_secs_f64()) }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a registration")]
    fn admit(
        &mut self,
        now: Now,
        from: &Upid,
        info: v1::AgentInfo,
        version: Option<String>,
        capabilities: Vec<v1::agent_info::Capability>,
        resource_version: Option<v1::Uuid>,
        total: Resources,
        used: &[(String, String, Resources)],
        reregistered: f64,
    ) {
        let Some(id) = info.id.as_ref().map(|id| id.value.clone()) else { return };
        let before = self.agents.remove(&id);
        if let Some(before) = &before {
            self.forget_address(&before.pid, &id);
            // Who registers again is not given up any more, as after a pong.
            if before.removal_due.is_some() || matches!(before.away, Some(Away::GivenUp(_))) {
                self.count("master/slave_unreachable_canceled");
            }
        }
        self.agents_by_pid.insert(from.clone(), id.clone());
        self.agents_at.entry(from.address).or_default().insert(id.clone());
        let agent = Agent {
            id: id.clone(),
            pid: from.clone(),
            observer: before.as_ref().map_or(self.next_observer, |agent| agent.observer),
            version: version.unwrap_or_default(),
            capabilities,
            resource_version,
            total: total.clone(),
            tasks: BTreeSet::new(),
            operations: before.as_ref().map(|agent| agent.operations.clone()).unwrap_or_default(),
            acknowledged: before
                .as_ref()
                .map(|agent| agent.acknowledged.clone())
                .unwrap_or_default(),
            connected: true,
            away: None,
            unavailable: before.as_ref().and_then(|agent| agent.unavailable.clone()),
            deactivated: false,
            drain: None,
            drain_since: before.as_ref().and_then(|agent| agent.drain_since),
            registered: before.as_ref().map_or(now.wall, |agent| agent.registered),
            reregistered,
            // The first ping goes out with the answer to the registration; one that comes back is pinged when it is
            // its turn.
            missed: u32::from(before.is_none()),
            removal_due: None,
            ping_due: before
                .as_ref()
                .map_or(now.mono + self.settings.agent_ping_timeout, |agent| agent.ping_due),
            offers: BTreeSet::new(),
            info,
        };
        let is_new = before.is_none();
        if is_new {
            self.next_observer += 1;
            self.pings.push_back((agent.ping_due, id.clone()));
        }
        self.allocator.add_agent(&agent.info, &agent.capabilities, total, used);
        self.agents.insert(id.as_str(), agent);
        self.update_unavailability(&id);
        if is_new {
            self.notify_agent_added(&id, used);
        }
        self.candidates.insert(id);
    }

    pub(super) fn reregister(
        &mut self,
        now: Now,
        from: &Upid,
        message: internal::ReregisterSlaveMessage,
    ) {
        if !self.check_agent(from) {
            return;
        }
        let Some(id) = message.slave.id.as_ref().map(|id| id.value.clone()) else {
            tracing::warn!(%from, "re-registration without an id ignored");
            return;
        };
        let total = match total(&message.slave, &message.checkpointed_resources) {
            Ok(total) => total,
            Err(error) => {
                tracing::warn!(%from, error, "agent refused: its resources are not valid");
                return;
            }
        };
        if !self.may_register(from, &message.slave) {
            return;
        }
        if self.is_gone(&id) {
            let message = Some("Agent has been marked gone".to_owned());
            self.send(from, &internal::ShutdownMessage { message });
            return;
        }
        self.count("master/slave_reregistrations");
        self.rescind_offers_of_agent(&id);
        let was_unreachable = self.admit_to_registry(&message.slave);
        let was_recovered = self.recovered_agents.remove(&id).is_some();

        // Frameworks of its tasks that no longer exist are shut down there; those not seen yet are known by name from now on.
        for info in &message.frameworks {
            let Some(framework) = info.id.as_ref().map(|id| id.value.clone()) else { continue };
            if self.completed_frameworks.contains_key(&framework) {
                self.send(
                    from,
                    &internal::ShutdownFrameworkMessage {
                        framework_id: v1::FrameworkId { value: framework },
                    },
                );
            } else if !self.frameworks.contains_key(&framework) {
                self.recover_framework(now, &framework, info.clone());
            }
        }
        let reported: BTreeSet<(String, String)> = message
            .tasks
            .iter()
            .map(|task| (task.framework_id.value.clone(), task.task_id.value.clone()))
            .collect();
        let unknown = self.tasks_unknown_to_agent(&id, &reported, was_unreachable);
        let was_known = self.agents.contains_key(&id);
        for mut task in message.tasks {
            let Some(framework) = self.frameworks.get_mut(&task.framework_id.value) else {
                continue;
            };
            if is_over_since(framework, &task, was_known) {
                continue;
            }
            let id = &task.task_id;
            let was_lost = framework.unreachable.remove(&id.value).is_some();
            if !was_lost && !framework.tasks.contains_key(&id.value) {
                // None is both over and under way.
                framework.completed.retain(|ended| ended.task.task_id != *id);
            }
            if !was_known && !was_recovered {
                self.tell_of_return(now, &task, was_unreachable);
            }
            let Some(framework) = self.frameworks.get(&task.framework_id.value) else { continue };
            // Agents send the form before Mesos 1.4 where they can.
            task.resources = Resources::from_protos(&task.resources).to_protos();
            allocate_old(framework, &mut task.resources);
            // Read from the wire there is room for more, of which there will be little.
            task.statuses.shrink_to_fit();
            let (framework, task_id) = (framework.id.clone(), task.task_id.value.clone());
            let known = self.frameworks.get_mut(&framework);
            if known.is_some_and(|known| !known.tasks.insert(task_id.as_str(), task)) {
                self.notify_task_added(&framework, &task_id);
            }
        }
        // An executor that the agent does not report has ended: what it held is free.
        for framework in self.frameworks.values_mut() {
            framework.forget_executors_on(&id);
        }
        for mut executor in message.executor_infos {
            // A command task's executor is the agent's own; its resources are the task's.
            let Some(framework) =
                executor.framework_id.as_ref().and_then(|id| self.frameworks.get_mut(&id.value))
            else {
                continue;
            };
            if !framework.tasks.contains_key(&executor.executor_id.value) {
                executor.resources = Resources::from_protos(&executor.resources).to_protos();
                allocate_old(framework, &mut executor.resources);
                framework
                    .executors
                    .insert((id.clone(), executor.executor_id.value.clone()), executor);
            }
        }
        // Only now that all is known that it runs; those of frameworks that are gone were left out.
        let tasks: BTreeSet<(String, String)> = reported
            .into_iter()
            .chain(unknown.iter().cloned())
            .filter(|(framework, task)| {
                self.frameworks.get(framework).is_some_and(|known| known.tasks.contains_key(task))
            })
            .collect();
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.tasks.clone_from(&tasks);
        }
        let used = self.used_by(&id, &tasks);
        self.admit(
            now,
            from,
            message.slave,
            message.version,
            message.agent_capabilities,
            message.resource_version_uuid,
            total,
            &used,
            now.wall,
        );
        self.apply_deactivation(&id);
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.drain_since = agent.drain.map(|_| agent.drain_since.unwrap_or(now.wall));
            agent.tasks = tasks;
        }
        tracing::info!(agent = id, %from, "agent registered again");
        self.effects.push(Effect::Relink(from.clone()));
        let reply = internal::SlaveReregisteredMessage {
            slave_id: v1::AgentId { value: id.clone() },
            reconciliations: self.questions(&id, &unknown),
            connection: Some(self.connection()),
        };
        self.send(from, &reply);
        if let Some(drain) = self.agents[&id].drain {
            self.send(from, &internal::DrainSlaveMessage { config: drain.config });
        }
        for framework in message
            .frameworks
            .iter()
            .filter_map(|info| info.id.as_ref())
            .map(|id| id.value.clone())
            .collect::<Vec<_>>()
        {
            // Of one that only its tasks tell of, the agent knows as much.
            let known = self.frameworks.get(&framework);
            if known.is_some_and(|known| known.connection != Connection::Recovered) {
                self.tell_agent_of_framework(from, &framework);
            }
        }
        if !was_known {
            self.ping_for_the_first_time(&id);
        }
    }

    fn ping_for_the_first_time(&mut self, id: &str) {
        let Some(agent) = self.agents.get(id) else { return };
        let (observer, pid) = (observer_id(agent.observer), agent.pid.clone());
        self.send_from(&observer, &pid, &internal::PingSlaveMessage { connected: true });
    }

    /// Tells an agent where updates of a framework's tasks go: for a framework over HTTP, through the master.
    pub(super) fn tell_agent_of_framework(&mut self, to: &Upid, framework: &str) {
        let Some(known) = self.frameworks.get(framework) else { return };
        let message = internal::UpdateFrameworkMessage {
            framework_id: v1::FrameworkId { value: framework.to_owned() },
            pid: Some(known.pid_text()),
            framework_info: Some(known.info.clone()),
        };
        self.send(to, &message);
    }

    /// Puts an agent into the registry; whether it was unreachable before.
    fn admit_to_registry(&mut self, info: &v1::AgentInfo) -> bool {
        let Some(id) = info.id.as_ref().map(|id| id.value.as_str()) else { return false };
        let before = self.strike_off_unreachable(id);
        let was_unreachable = before.is_some();
        let upgraded = |info: &v1::AgentInfo| {
            let resources = Resources::from_protos(&info.resources).to_protos();
            v1::AgentInfo { resources, ..info.clone() }
        };
        match self.registered(id) {
            Some(slave) if upgraded(&slave.info) == upgraded(info) && !was_unreachable => {
                return false;
            }
            Some(slave) => slave.info = info.clone(),
            None => {
                let (drain_info, deactivated) =
                    before.map_or((None, None), |before| (before.drain_info, before.deactivated));
                // As the original writes it: in the newest form only what comes back.
                let info = if was_unreachable { upgraded(info) } else { info.clone() };
                self.enroll(registry::Slave { info, drain_info, deactivated });
            }
        }
        self.store();
        was_unreachable
    }

    fn recover_framework(&mut self, now: Now, id: &str, info: v1::FrameworkInfo) {
        self.frameworks.insert(
            id.to_owned(),
            Framework {
                id: id.to_owned(),
                info,
                constraints: v1::scheduler::OfferConstraints::default(),
                connection: Connection::Recovered,
                pid: None,
                active: false,
                registered: now.wall,
                reregistered: 0.0,
                unregistered: 0.0,
                tasks: Copies::new(),
                completed: std::collections::VecDeque::new(),
                unreachable: Copies::new(),
                operations: std::collections::BTreeMap::new(),
                messages: 0,
                counters: std::collections::BTreeMap::new(),
                executors: std::collections::BTreeMap::new(),
                offers: Copies::new(),
                heartbeat_due: now.mono,
            },
        );
        self.notify_framework(id, true);
    }

    /// Tasks that we know on an agent and it did not report. Their launch may have been lost on the way, or be on its
    /// way still: the agent is asked and answers with their end, unless it has got them meanwhile.
    fn tasks_unknown_to_agent(
        &mut self,
        agent: &str,
        reported: &BTreeSet<(String, String)>,
        was_unreachable: bool,
    ) -> BTreeSet<(String, String)> {
        let mut unknown: BTreeSet<(String, String)> =
            self.tasks_on(agent).into_iter().filter(|task| !reported.contains(task)).collect();
        // What is over already has had its end; nobody will tell it again.
        let over: Vec<(String, String)> =
            unknown.extract_if(.., |(framework, task)| self.is_over(framework, task)).collect();
        for (framework, task) in over {
            self.put_away(&framework, &task, End::Settled);
        }
        for framework in self.frameworks.values_mut().filter(|_| was_unreachable) {
            let is_here = |(id, task): (&str, &v1::Task)| {
                let key = (framework.id.clone(), id.to_owned());
                (task.agent_id.value == agent && !reported.contains(&key)).then_some(key)
            };
            let back: Vec<(String, String)> =
                framework.unreachable.iter().filter_map(is_here).collect();
            for (framework_id, task) in back {
                if let Some(known) = framework.unreachable.remove(&task) {
                    framework.tasks.insert(task.as_str(), known);
                    unknown.insert((framework_id, task));
                }
            }
        }
        unknown
    }

    fn is_over(&self, framework: &str, task: &str) -> bool {
        let known = self.frameworks.get(framework).and_then(|known| known.tasks.get(task));
        known.is_some_and(|task| is_terminal(task.state()))
    }

    /// What an agent is asked of tasks, one message a framework.
    fn questions(
        &self,
        agent: &str,
        tasks: &BTreeSet<(String, String)>,
    ) -> Vec<internal::ReconcileTasksMessage> {
        let mut questions: Vec<internal::ReconcileTasksMessage> = Vec::new();
        for (framework, task) in tasks {
            let status = v1::TaskStatus {
                task_id: v1::TaskId { value: task.clone() },
                state: v1::TaskState::TaskStaging as i32,
                agent_id: Some(v1::AgentId { value: agent.to_owned() }),
                ..Default::default()
            };
            match questions.last_mut().filter(|last| last.framework_id.value == *framework) {
                Some(last) => last.statuses.push(status),
                None => questions.push(internal::ReconcileTasksMessage {
                    framework_id: v1::FrameworkId { value: framework.clone() },
                    statuses: vec![status],
                    framework: self.frameworks.get(framework).map(|known| known.info.clone()),
                }),
            }
        }
        questions
    }

    /// What runs on an agent, by framework and role.
    pub(super) fn used_on(&self, agent: &str) -> Vec<(String, String, Resources)> {
        self.agents.get(agent).map(|on| self.used_by(agent, &on.tasks)).unwrap_or_default()
    }

    fn used_by(
        &self,
        agent: &str,
        tasks: &BTreeSet<(String, String)>,
    ) -> Vec<(String, String, Resources)> {
        let of = |framework: &Framework, resources: &[v1::Resource]| {
            let role = mesos::model::role(resources).unwrap_or("*").to_owned();
            (framework.id.clone(), role, Resources::from_protos(resources).unallocate())
        };
        let mut used = Vec::new();
        for (framework, task) in tasks {
            let Some(framework) = self.frameworks.get(framework) else { continue };
            let live = framework.tasks.get(task).filter(|task| !is_terminal(task.state()));
            used.extend(live.map(|task| of(framework, &task.resources)));
        }
        for framework in self.frameworks.values() {
            for executor in framework.executors_on(agent) {
                let key = (agent.to_owned(), executor.value);
                let executor = framework.executors.get(&key);
                used.extend(executor.map(|executor| of(framework, &executor.resources)));
            }
        }
        used
    }
}

/// Whether a task that an agent reports ended, and was acknowledged, after the agent told of it: nobody would tell of its
/// end again. The master knows all tasks of an agent that is registered (`Master::reconcileKnownSlave`), but for those
/// that it thought to be lost when the agent was cut off; of others it knows which ends were settled. An end that was
/// not comes again with the agent, as all tasks do in the original (`Master::__reregisterSlave`).
fn is_over_since(framework: &Framework, task: &v1::Task, knows_agent: bool) -> bool {
    let id = &task.task_id;
    if framework.tasks.contains_key(&id.value) || framework.unreachable.contains_key(&id.value) {
        return false;
    }
    let end = framework.completed.iter().rev().find(|ended| ended.task.task_id == *id);
    (knows_agent && is_terminal(task.state())) || end.is_some_and(|ended| ended.end == End::Settled)
}

/// What an agent has, with the reservations and volumes that it remembers.
fn total(info: &v1::AgentInfo, checkpointed: &[v1::Resource]) -> Result<Resources, String> {
    Resources::validate(&info.resources)?;
    Resources::validate(checkpointed)?;
    Resources::from_protos(&info.resources).with_checkpointed(&Resources::from_protos(checkpointed))
}

/// Marks resources of an agent that knows no allocation to roles as allocated to the framework's.
fn allocate_old(framework: &Framework, resources: &mut [v1::Resource]) {
    let role = framework.roles().into_iter().next().unwrap_or_else(|| "*".to_owned());
    for resource in resources {
        resource
            .allocation_info
            .get_or_insert_with(|| v1::resource::AllocationInfo { role: Some(role.clone()) });
    }
}
