//! What can be allowed, by the names that ACLs have for it.

macro_rules! actions {
    ($($action:ident $name:literal $objects:literal,)*) => {
        /// Something that a principal may or may not do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action {
            $(
                #[doc = concat!("`", $name, "`, of `", $objects, "`.")]
                $action,
            )*
        }

        impl Action {
            /// All, in the order of the original's messages.
            pub const ALL: &[Self] = &[$(Self::$action),*];

            /// Its list's name in JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$action => $name,)*
                }
            }

            /// What its entries call that which is acted on.
            pub fn objects(self) -> &'static str {
                match self {
                    $(Self::$action => $objects,)*
                }
            }
        }
    };
}

actions! {
    RegisterFrameworks "register_frameworks" "roles",
    RunTasks "run_tasks" "users",
    ReserveResources "reserve_resources" "roles",
    UnreserveResources "unreserve_resources" "reserver_principals",
    CreateVolumes "create_volumes" "roles",
    DestroyVolumes "destroy_volumes" "creator_principals",
    TeardownFrameworks "teardown_frameworks" "framework_principals",
    UpdateWeights "update_weights" "roles",
    GetEndpoints "get_endpoints" "paths",
    GetQuotas "get_quotas" "roles",
    UpdateQuotas "update_quotas" "roles",
    ViewFrameworks "view_frameworks" "users",
    ViewTasks "view_tasks" "users",
    ViewExecutors "view_executors" "users",
    AccessSandboxes "access_sandboxes" "users",
    AccessMesosLogs "access_mesos_logs" "logs",
    ViewRoles "view_roles" "roles",
    ViewFlags "view_flags" "flags",
    LaunchNestedContainersAsUser "launch_nested_containers_as_user" "users",
    LaunchNestedContainersUnderParentWithUser "launch_nested_containers_under_parent_with_user" "users",
    KillNestedContainers "kill_nested_containers" "users",
    WaitNestedContainers "wait_nested_containers" "users",
    LaunchNestedContainerSessionsAsUser "launch_nested_container_sessions_as_user" "users",
    LaunchNestedContainerSessionsUnderParentWithUser "launch_nested_container_sessions_under_parent_with_user" "users",
    AttachContainersInput "attach_containers_input" "users",
    AttachContainersOutput "attach_containers_output" "users",
    ViewContainers "view_containers" "users",
    SetLogLevel "set_log_level" "level",
    RemoveNestedContainers "remove_nested_containers" "users",
    RegisterAgents "register_agents" "agents",
    UpdateMaintenanceSchedules "update_maintenance_schedules" "machines",
    GetMaintenanceSchedules "get_maintenance_schedules" "machines",
    StartMaintenances "start_maintenances" "machines",
    StopMaintenances "stop_maintenances" "machines",
    GetMaintenanceStatuses "get_maintenance_statuses" "machines",
    LaunchStandaloneContainers "launch_standalone_containers" "users",
    KillStandaloneContainers "kill_standalone_containers" "users",
    WaitStandaloneContainers "wait_standalone_containers" "users",
    RemoveStandaloneContainers "remove_standalone_containers" "users",
    ViewStandaloneContainers "view_standalone_containers" "users",
    ModifyResourceProviderConfigs "modify_resource_provider_configs" "resource_providers",
    MarkResourceProvidersGone "mark_resource_providers_gone" "resource_providers",
    ViewResourceProviders "view_resource_providers" "resource_providers",
    PruneImages "prune_images" "images",
    MarkAgentsGone "mark_agents_gone" "agents",
    ResizeVolumes "resize_volumes" "roles",
    CreateBlockDisks "create_block_disks" "roles",
    DestroyBlockDisks "destroy_block_disks" "roles",
    CreateMountDisks "create_mount_disks" "roles",
    DestroyMountDisks "destroy_mount_disks" "roles",
    DestroyRawDisks "destroy_raw_disks" "roles",
    DrainAgents "drain_agents" "agents",
    DeactivateAgents "deactivate_agents" "agents",
    ReactivateAgents "reactivate_agents" "agents",
}

impl Action {
    /// The action of a list's name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.name() == name)
    }
}
