//! What containers may take, and those that take more, or what others have a better claim to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mesos::resources::{Ranges, Resources};
use mesos::v1::task_status::Reason;
use mesos::v1::{self, TaskState};

use super::container_id::ContainerId;
use super::{Agent, Executor, ExecutorState, Now, Verdict};
use crate::checkpoint;
use crate::containerizer::{Problem, ResourceLimits};

/// How much a container may keep in its sandbox, or in a persistent volume.
#[derive(Debug, Clone)]
pub struct DiskQuota {
    /// Its id.
    pub container: String,
    /// The sandbox, or the volume.
    pub directory: PathBuf,
    /// Whether it is a volume.
    pub is_volume: bool,
    /// What it has of disks there.
    pub resources: Resources,
    /// How much that is, in bytes.
    pub limit: u64,
}

/// What a container keeps on disks, as it was found last (`PosixDiskIsolatorProcess::usage`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiskUse {
    /// Of its sandbox.
    pub sandbox: Option<v1::DiskStatistics>,
    /// Of its persistent volumes.
    pub volumes: Vec<v1::DiskStatistics>,
}

impl DiskUse {
    /// Adds what was found in one place, in bytes.
    pub fn add(&mut self, quota: &DiskQuota, used: u64) {
        let mut own = v1::DiskStatistics {
            limit_bytes: Some(quota.limit),
            used_bytes: Some(used),
            ..Default::default()
        };
        if !quota.is_volume {
            self.sandbox = Some(own);
            return;
        }
        let mut resources = quota.resources.to_protos().into_iter();
        if let Some(disk) = resources.find_map(|resource| resource.disk) {
            (own.source, own.persistence) = (disk.source, disk.persistence);
        }
        self.volumes.push(own);
    }
}

impl Executor {
    /// What its container may take; `has_cpu_quota` is `--cgroups_enable_cfs`.
    pub fn limits(&self, has_cpu_quota: bool) -> ResourceLimits {
        let own = Resources::from_protos(&self.info.resources);
        let queued = self.queued.values().map(|task| (&task.resources[..], &task.limits));
        let tasks = self.tasks.values().map(|task| (&task.resources[..], &task.limits));
        ResourceLimits::of_executor(&own, queued.chain(tasks), has_cpu_quota)
    }
}

impl Agent {
    /// How much each executor's container may keep in its sandbox and in each of its volumes: none where it has no disk.
    /// What is a file system of its own needs no looking at.
    pub fn disk_quotas(&self) -> Vec<DiskQuota> {
        let work_dir = &self.settings.work_dir;
        let quotas = |executor: &Executor| {
            let mut resources = executor.resources().named("disk");
            let volumes = resources.persistent_volumes();
            resources.subtract(&volumes);
            let quota = |directory: PathBuf, is_volume: bool, resources: Resources| DiskQuota {
                container: executor.run.container.clone(),
                limit: (resources.disk() * 1_048_576.0) as u64,
                directory,
                is_volume,
                resources,
            };
            let of_volume = |volume: v1::Resource| {
                let source = volume.disk.as_ref().and_then(|disk| disk.source.as_ref());
                let kind = source.map(v1::resource::disk_info::Source::r#type);
                if kind == Some(v1::resource::disk_info::source::Type::Mount) {
                    return None;
                }
                let directory = checkpoint::resources::volume_path(work_dir, &volume)?;
                Some(quota(directory, true, Resources::from_protos(&[volume])))
            };
            let mut all = vec![quota(executor.run.sandbox(work_dir), false, resources)];
            all.extend(volumes.to_protos().into_iter().filter_map(of_volume));
            all
        };
        self.executors().flat_map(quotas).filter(|quota| quota.limit > 0).collect()
    }

    /// The containers that the host's ports are divided among, each with the ports that are allocated to it, or to what it
    /// is nested in. Docker's are not looked at; those that joined a network are not if `spares_networks`.
    pub fn ports_of_containers(&self, spares_networks: bool) -> Vec<(String, Ranges)> {
        let has_own = |executor: &Executor| {
            let networks = executor.info.container.iter().flat_map(|own| &own.network_infos);
            spares_networks && networks.into_iter().any(|network| network.name.is_some())
        };
        let executors = self.executors().filter(|own| !own.is_in_docker() && !has_own(own));
        let mut all: Vec<(String, Ranges)> = executors
            .map(|executor| (executor.run.container.clone(), executor.resources().ports()))
            .collect();
        let of_roots: BTreeMap<String, Ranges> = all.iter().cloned().collect();
        all.extend(self.containers.iter().filter_map(|(id, container)| {
            // Of a standalone one it is not known which network it joined.
            let own = (id.depth() == 0 && !spares_networks).then(|| container.resources.ports());
            let ports = own.or_else(|| of_roots.get(id.root()).cloned())?;
            container.is_alive().then(|| (id.to_string(), ports))
        }));
        all
    }

    /// Ends all executors that revocable resources are allocated to, for those that the resources belong to
    /// (`Slave::_qosCorrections`).
    pub fn preempt(&mut self, now: Now, reason: &str) {
        let mut destroyed = Vec::new();
        for framework in self.frameworks.values_mut().filter(|known| !known.is_terminating) {
            let executors = framework.executors.values_mut();
            for executor in executors.filter(|own| !own.is_ending()) {
                if executor.resources().revocable().is_empty() {
                    continue;
                }
                executor.verdict = Some(Verdict::new(
                    TaskState::TaskGone,
                    Reason::ContainerPreempted,
                    "Container preempted by QoS correction",
                ));
                executor.state = ExecutorState::Terminating(None);
                destroyed.push(executor.run.container.clone());
            }
        }
        for container in destroyed {
            tracing::info!(at = now.wall, container, reason, "container ended as QoS correction");
            self.count("slave/executors_preempted");
            self.destroy_container(&ContainerId::root_of(&container));
        }
    }

    /// A container has taken more than it may: it ends, and its tasks fail for that reason.
    pub fn exceed(&mut self, container: &str, problem: Problem) {
        let executors = self.frameworks.values_mut().flat_map(|known| known.executors.values_mut());
        let mut found = executors.filter(|executor| executor.run.container == container);
        let Some(executor) = found.next().filter(|executor| executor.verdict.is_none()) else {
            return;
        };
        tracing::warn!(container, message = problem.message, "container ended");
        executor.verdict = Some(Verdict { state: TaskState::TaskFailed, problem });
        executor.state = ExecutorState::Terminating(None);
        self.destroy_container(&ContainerId::root_of(container));
    }
}
