//! What can be asked.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Look at a Mesos cluster and operate it.
#[derive(Debug, Parser)]
#[command(name = "mesos", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// The master: host:port or https://host:port, or zk://host:port/path to find the leading one
    #[arg(long, short, global = true, env = "MESOS_MASTER", value_name = "MASTER")]
    pub master: Option<String>,
    /// Print JSON, as the API has it
    #[arg(long, global = true)]
    pub json: bool,
    /// Who to authenticate as; the secret comes from --secret-file
    #[arg(long, global = true, value_name = "NAME", requires = "secret_file")]
    pub principal: Option<String>,
    /// A file with the principal's secret
    #[arg(long, global = true, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// A file of authorities that the cluster's certificates must be signed by; with it, TLS is spoken
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// A file with defaults: [master] address, principal, secret_file, ca_file
    #[arg(long, global = true, env = "MESOS_CLI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List agents
    Agents,
    /// List frameworks
    Frameworks {
        /// Those that are gone, too
        #[arg(long, short)]
        all: bool,
    },
    /// List tasks
    Tasks {
        /// Those that are over or can't be reached, too
        #[arg(long, short)]
        all: bool,
        /// Only a framework's
        #[arg(long, value_name = "ID")]
        framework: Option<String>,
    },
    /// Show all of the leading master's state, as JSON
    State,
    /// Show a task's output
    Logs {
        /// The task's id, or the beginning of it
        task: String,
        /// A file in the task's sandbox
        #[arg(default_value = "stdout")]
        file: String,
        /// Go on with what comes
        #[arg(long, short)]
        follow: bool,
        /// Only the last lines
        #[arg(long, short = 'n', value_name = "LINES")]
        lines: Option<usize>,
    },
    /// List the files in a task's sandbox
    Ls {
        /// The task's id, or the beginning of it
        task: String,
        /// A folder in the sandbox
        #[arg(default_value = "")]
        path: String,
    },
    /// Copy a file out of a task's sandbox
    Cp {
        /// TASK:PATH
        source: String,
        /// Where to; - for standard output
        target: PathBuf,
    },
    /// Run a command in a task's container
    Exec {
        /// Hand standard input on
        #[arg(long, short)]
        interactive: bool,
        /// Give the command a terminal
        #[arg(long, short)]
        tty: bool,
        /// The task's id, or the beginning of it
        task: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Follow the output of a task that was started with one to attach to
    Attach {
        /// Hand standard input on
        #[arg(long, short)]
        interactive: bool,
        /// The task's id, or the beginning of it
        task: String,
    },
    /// Show and set quotas
    Quota {
        /// What to do with them
        #[command(subcommand)]
        command: Quota,
    },
    /// Reserve resources on an agent
    Reserve(Reservation),
    /// Give reserved resources back
    Unreserve(Reservation),
    /// Make and remove persistent volumes
    Volumes {
        /// What to do with them
        #[command(subcommand)]
        command: Volumes,
    },
    /// Plan and carry out maintenance
    Maintenance {
        /// What to do
        #[command(subcommand)]
        command: Maintenance,
    },
    /// End an agent's tasks gracefully and keep new ones away
    Drain {
        /// The agent's id, or its host's name
        agent: String,
        /// Longest time that a task may take to end, like 10mins
        #[arg(long, value_name = "DURATION")]
        max_grace_period: Option<String>,
        /// Mark it gone when it is drained
        #[arg(long)]
        mark_gone: bool,
    },
    /// Keep new tasks away from an agent
    Deactivate {
        /// The agent's id, or its host's name
        agent: String,
    },
    /// Let new tasks onto an agent again
    Reactivate {
        /// The agent's id, or its host's name
        agent: String,
    },
    /// Give an agent up for good
    Gone {
        /// The agent's id
        agent: String,
    },
    /// Show and set the weights of roles
    Weights {
        /// ROLE=WEIGHT pairs to set
        weights: Vec<String>,
    },
    /// End a framework and all its tasks
    Teardown {
        /// The framework's id
        framework: String,
    },
    /// Show which master is asked, as whom
    Config,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// `mesos quota`.
#[derive(Debug, Subcommand)]
pub enum Quota {
    /// List quotas
    List,
    /// Set a role's quota
    Set {
        /// The role
        role: String,
        /// What it gets at least, like cpus:4;mem:1024
        #[arg(long, value_name = "RESOURCES")]
        guarantees: Option<String>,
        /// What it gets at most, like cpus:8;mem:4096
        #[arg(long, value_name = "RESOURCES")]
        limits: Option<String>,
    },
    /// Remove a role's quota
    Remove {
        /// The role
        role: String,
    },
}

/// What is reserved where.
#[derive(Debug, Args)]
pub struct Reservation {
    /// The agent's id, or its host's name
    pub agent: String,
    /// Resources like cpus:4;mem:1024, or a JSON list of them as the API has it
    pub resources: String,
    /// The role; not needed with JSON
    #[arg(long)]
    pub role: Option<String>,
    /// The principal that is written into the reservation; of --principal, if that is given
    #[arg(long = "as", value_name = "PRINCIPAL")]
    pub reserver: Option<String>,
}

/// `mesos volumes`.
#[derive(Debug, Subcommand)]
pub enum Volumes {
    /// List persistent volumes
    List,
    /// Make a volume from reserved disk
    Create {
        /// The agent's id, or its host's name
        agent: String,
        /// The volume's id
        id: String,
        /// Its size, like 512MB
        #[arg(long)]
        size: String,
        /// The role that the disk is reserved for
        #[arg(long)]
        role: String,
        /// Where tasks see it
        #[arg(long, default_value = "data", value_name = "PATH")]
        container_path: String,
        /// The principal that the disk is reserved by, and the volume made
        #[arg(long = "as", value_name = "PRINCIPAL")]
        creator: Option<String>,
    },
    /// Remove a volume and all that is in it
    Destroy {
        /// The agent's id, or its host's name
        agent: String,
        /// The volume's id
        id: String,
    },
}

/// `mesos maintenance`.
#[derive(Debug, Subcommand)]
pub enum Maintenance {
    /// Show the schedule, or set it from a file
    Schedule {
        /// JSON with the windows, as the API has it; - for standard input
        file: Option<PathBuf>,
    },
    /// Show which machines are draining or down
    Status,
    /// Take machines down
    Down {
        /// Machines: HOST or HOST/IP
        #[arg(required = true)]
        machines: Vec<String>,
    },
    /// Bring machines back
    Up {
        /// Machines: HOST or HOST/IP
        #[arg(required = true)]
        machines: Vec<String>,
    },
}
