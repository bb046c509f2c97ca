//! A host's systemd, over its D-Bus, over the SSH connection: states and job results as values, never parsed from text.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use zbus::OwnedObjectPath;

use crate::facts::UnitFact;
use crate::plan::Action;
use crate::problem::{Kind, Problem};
use crate::ssh::{Connection, quoted};

/// Connects its standard input and output to the system bus; part of systemd since before 219.
const BRIDGE: &str = "exec systemd-stdio-bridge";
/// How long a call may take; a cut connection shows only by this.
const CALL: Duration = Duration::from_secs(30);
/// How long a unit may take to start or stop.
const JOB: Duration = Duration::from_secs(180);
/// Lines of a unit's journal that are shown when it fails.
const JOURNAL_LINES: u32 = 12;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn get_unit_file_state(&self, name: &str) -> zbus::Result<String>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn enable_unit_files(
        &self,
        names: &[&str],
        runtime: bool,
        force: bool,
    ) -> zbus::Result<(bool, Vec<(String, String, String)>)>;
    fn disable_unit_files(
        &self,
        names: &[&str],
        runtime: bool,
    ) -> zbus::Result<Vec<(String, String, String)>>;
    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn sub_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1"
)]
trait Service {
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_start_timestamp(&self) -> zbus::Result<u64>;
}

/// A host's systemd.
#[derive(Debug)]
pub struct Systemd {
    connection: Connection,
    bus: zbus::Connection,
    manager: ManagerProxy<'static>,
}

impl Systemd {
    /// Opens the host's bus.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(connection: &Connection) -> Result<Self, Problem> {
        let stream = connection.command_stream(BRIDGE).await?;
        let opened = async {
            let bus = zbus::connection::Builder::unix_stream(stream)
                // Who asks is root at the far end, whoever runs meso here.
                .user_id(0)
                .method_timeout(CALL)
                .build()
                .await?;
            let manager = ManagerProxy::new(&bus).await?;
            // Else systemd sends no signals.
            manager.subscribe().await?;
            Ok::<_, zbus::Error>((bus, manager))
        };
        let (bus, manager) = tokio::time::timeout(CALL, opened)
            .await
            .map_err(|_| "no answer".to_owned())
            .and_then(|result| result.map_err(|error| error.to_string()))
            .map_err(|why| failed(connection, "the host's D-Bus can't be reached", &why))?;
        Ok(Self { connection: connection.clone(), bus, manager })
    }

    /// States of units.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub async fn units(&self, names: &[&str]) -> Result<BTreeMap<String, UnitFact>, Problem> {
        let mut units = BTreeMap::new();
        for name in names {
            let fact = self.unit(name).await.map_err(|error| {
                failed(
                    &self.connection,
                    &format!("the state of {name} can't be read"),
                    &error.to_string(),
                )
            })?;
            units.insert((*name).to_owned(), fact);
        }
        Ok(units)
    }

    async fn unit(&self, name: &str) -> zbus::Result<UnitFact> {
        // LoadUnit answers for units that don't exist, too; ListUnitsByNames is younger than systemd 219.
        let path = self.manager.load_unit(name).await?;
        let unit = UnitProxy::builder(&self.bus).path(path.clone()).build().await?;
        let load = unit.load_state().await?;
        if load == "not-found" {
            return Ok(UnitFact::default());
        }
        let service = ServiceProxy::builder(&self.bus).path(path).build().await?;
        // Fails where the unit has no file: made at run time.
        let file_state = self.manager.get_unit_file_state(name).await.unwrap_or_default();
        Ok(UnitFact {
            exists: true,
            enabled: file_state.starts_with("enabled"),
            masked: load == "masked",
            active: unit.active_state().await?,
            sub: unit.sub_state().await?,
            started_us: service.exec_main_start_timestamp().await?,
        })
    }

    /// Does something with a unit, and waits until it is done.
    ///
    /// # Errors
    /// When systemd refuses or the job ends otherwise than done; the reason holds the end of the unit's journal.
    pub async fn act(&self, unit: &str, action: Action) -> Result<(), Problem> {
        let what = format!("can't {} {unit}", action.word());
        let outcome = match tokio::time::timeout(JOB, self.try_act(unit, action)).await {
            Ok(Ok(result)) if result == "done" => return Ok(()),
            Ok(Ok(result)) => format!("systemd's job ended as '{result}'"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {} s", JOB.as_secs()),
        };
        let why = format!("{outcome}\n{}", self.journal(unit).await);
        Err(Problem::on(
            &self.connection.host.name,
            Kind::Failed,
            what,
            why.trim_end(),
            format!(
                "correct what the journal says (journalctl -u {unit}), then run meso again: it goes on where it ended"
            ),
        ))
    }

    async fn try_act(&self, unit: &str, action: Action) -> zbus::Result<String> {
        let start = match action {
            Action::Enable => {
                self.manager.enable_unit_files(&[unit], false, false).await?;
                self.manager.reload().await?;
                return Ok("done".to_owned());
            }
            Action::Disable => {
                self.manager.disable_unit_files(&[unit], false).await?;
                self.manager.reload().await?;
                return Ok("done".to_owned());
            }
            action => action,
        };
        // Listen first: the job may be done before its path is known here.
        let mut removed = self.manager.receive_job_removed().await?;
        // A unit that gave up starting keeps its count of tries until then; one that isn't loaded has none.
        let _ = self.manager.reset_failed_unit(unit).await;
        let job = match start {
            Action::Stop => self.manager.stop_unit(unit, "replace").await?,
            Action::Restart => self.manager.restart_unit(unit, "replace").await?,
            _ => self.manager.start_unit(unit, "replace").await?,
        };
        while let Some(signal) = removed.next().await {
            let arguments = signal.args()?;
            if arguments.job == job {
                return Ok(arguments.result);
            }
        }
        Ok("unknown: the connection to D-Bus was lost".to_owned())
    }

    /// The end of a unit's journal, for people.
    async fn journal(&self, unit: &str) -> String {
        let command =
            format!("journalctl -u {} -n {JOURNAL_LINES} --no-pager -o cat", quoted(unit));
        match self.connection.run(&command, Vec::new(), CALL).await {
            Ok(output) => output.text(),
            Err(problem) => format!("(its journal can't be read: {})", problem.why),
        }
    }
}

fn failed(connection: &Connection, what: &str, why: &str) -> Problem {
    Problem::on(
        &connection.host.name,
        Kind::Failed,
        what,
        why,
        "see that dbus runs on the host (systemctl status dbus), then run meso again",
    )
}
