//! What is limited, and by which of the kernel's controllers.

/// What is limited (`--isolation`); all processes of a container are found by its cgroup in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU shares.
    pub cpu: bool,
    /// CPU time of a period as well (`--cgroups_enable_cfs`): no more even where nobody else wants it.
    pub cpu_quota: bool,
    /// Memory.
    pub memory: bool,
    /// Memory and swap together (`--cgroups_limit_swap`).
    pub swap: bool,
    /// Processes and threads: whether they are counted.
    pub pids: bool,
    /// How many there may be (`--cgroups_pids_max`).
    pub pids_max: Option<u64>,
    /// Input and output of block devices: counted.
    pub blkio: bool,
    /// Processors and memory banks: all, for operators to take some.
    pub cpuset: bool,
    /// Devices: only those that are allowed.
    pub devices: bool,
    /// Huge pages: counted, for operators to limit.
    pub hugetlb: bool,
    /// Marks of packets. Not in version 2.
    pub net_cls: bool,
    /// Priorities of packets, for operators to set. Not in version 2.
    pub net_prio: bool,
    /// Events of the processors, for operators to count.
    pub perf_event: bool,
    /// Whether processes and threads are counted.
    pub counts: bool,
}

/// A controller of version 1, in a hierarchy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Blkio,
    Cpu,
    Cpuacct,
    Cpuset,
    Devices,
    Freezer,
    Hugetlb,
    Memory,
    NetCls,
    NetPrio,
    PerfEvent,
    Pids,
}

impl Controller {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Blkio => "blkio",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Hugetlb => "hugetlb",
            Self::Memory => "memory",
            Self::NetCls => "net_cls",
            Self::NetPrio => "net_prio",
            Self::PerfEvent => "perf_event",
            Self::Pids => "pids",
        }
    }

    /// Its name in version 2, where there is one to enable.
    pub(super) fn unified(self) -> Option<&'static str> {
        match self {
            Self::Blkio => Some("io"),
            Self::Cpu | Self::Cpuset | Self::Hugetlb | Self::Memory | Self::Pids => {
                Some(self.name())
            }
            // Named, though no kernel offers them: who asks for one is told.
            Self::NetCls | Self::NetPrio => Some(self.name()),
            Self::Cpuacct | Self::Devices | Self::Freezer | Self::PerfEvent => None,
        }
    }
}

impl Limits {
    /// Its controllers of version 2, as they are enabled.
    pub(super) fn enabled(self) -> String {
        let names = self.controllers().into_iter().filter_map(Controller::unified);
        names.map(|own| format!("+{own}")).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn controllers(self) -> Vec<Controller> {
        let wanted = [
            (Controller::Blkio, self.blkio),
            (Controller::Cpu, self.cpu),
            (Controller::Cpuacct, self.cpu),
            (Controller::Cpuset, self.cpuset),
            (Controller::Devices, self.devices),
            (Controller::Freezer, true),
            (Controller::Hugetlb, self.hugetlb),
            (Controller::Memory, self.memory),
            (Controller::NetCls, self.net_cls),
            (Controller::NetPrio, self.net_prio),
            (Controller::PerfEvent, self.perf_event),
            (Controller::Pids, self.pids),
        ];
        wanted.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(own, _)| own).collect()
    }
}
