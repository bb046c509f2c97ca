//! Health checks of a task, as its executor runs them (Mesos' `checks/health_checker.cpp`).

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mesos::v1::health_check::Type;
use mesos::v1::{self, HealthCheck};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;

/// What a check found that the framework must hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether the task is healthy.
    pub healthy: bool,
    /// Whether it has failed so often that it must be killed.
    pub kill: bool,
}

/// Decides what to report: the first success, each change, every failure after the grace period.
#[derive(Debug, Default)]
pub struct Verdicts {
    last: Option<bool>,
    failures: u32,
}

impl Verdicts {
    /// Takes a result in, `age` after the task began.
    pub fn result(&mut self, check: &HealthCheck, age: Duration, success: bool) -> Option<Health> {
        if success {
            self.failures = 0;
            return (self.last.replace(true) != Some(true))
                .then_some(Health { healthy: true, kill: false });
        }
        if self.last.is_none() && age.as_secs_f64() <= check.grace_period_seconds() {
            return None;
        }
        self.failures += 1;
        self.last = Some(false);
        Some(Health { healthy: false, kill: self.failures >= check.consecutive_failures() })
    }
}

/// Where HTTP and TCP checks go, and how commands are run.
#[derive(Debug, Clone)]
pub struct Place {
    /// Address of the task.
    pub ip: std::net::IpAddr,
    /// What a command is run by: `docker exec` for a container, nothing for a process.
    pub prefix: Vec<String>,
    /// The task's environment, for commands.
    pub environment: Vec<(String, String)>,
}

/// Checks until the receiver is dropped.
pub async fn watch(check: HealthCheck, place: Place, tell: mpsc::Sender<Health>) {
    let began = Instant::now();
    let seconds = |value: f64| Duration::from_secs_f64(value.clamp(0.0, 1e9));
    tokio::time::sleep(seconds(check.delay_seconds())).await;
    let mut verdicts = Verdicts::default();
    loop {
        let timeout = seconds(check.timeout_seconds());
        let success = if timeout.is_zero() {
            once(&check, &place).await
        } else {
            tokio::time::timeout(timeout, once(&check, &place)).await.unwrap_or(false)
        };
        if let Some(health) = verdicts.result(&check, began.elapsed(), success)
            && tell.send(health).await.is_err()
        {
            return;
        }
        tokio::time::sleep(seconds(check.interval_seconds()).max(Duration::from_millis(100))).await;
    }
}

async fn once(check: &HealthCheck, place: &Place) -> bool {
    match check.r#type() {
        Type::Command => {
            check.command.as_ref().is_some_and(|command| command.value.is_some())
                && command(check.command.as_ref(), place).await
        }
        Type::Http => match &check.http {
            Some(http) => {
                let scheme = http.scheme.as_deref().unwrap_or("http");
                let url = format!(
                    "{scheme}://{}{}",
                    SocketAddr::new(place.ip, http.port as u16),
                    http.path.as_deref().unwrap_or("/")
                );
                match reqwest::get(url).await {
                    Ok(response) => (200..400).contains(&response.status().as_u16()),
                    Err(_) => false,
                }
            }
            None => false,
        },
        Type::Tcp => match &check.tcp {
            Some(tcp) => {
                TcpStream::connect(SocketAddr::new(place.ip, tcp.port as u16)).await.is_ok()
            }
            None => false,
        },
        Type::Unknown => true,
    }
}

async fn command(command: Option<&v1::CommandInfo>, place: &Place) -> bool {
    let Some(command) = command else { return false };
    let mut words: Vec<String> = place.prefix.clone();
    if command.shell() {
        words.extend(["/bin/sh".to_owned(), "-c".to_owned(), command.value().to_owned()]);
    } else {
        words.push(command.value().to_owned());
        words.extend(command.arguments.iter().skip(1).cloned());
    }
    let Some((program, arguments)) = words.split_first() else { return false };
    let status = Command::new(program)
        .args(arguments)
        .envs(place.environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_only_after_the_grace_period_or_a_success() {
        let check = HealthCheck {
            grace_period_seconds: Some(10.0),
            consecutive_failures: Some(2),
            ..Default::default()
        };
        let mut verdicts = Verdicts::default();
        let at = Duration::from_secs;
        assert_eq!(verdicts.result(&check, at(5), false), None, "still starting");
        assert_eq!(
            verdicts.result(&check, at(6), true),
            Some(Health { healthy: true, kill: false })
        );
        assert_eq!(verdicts.result(&check, at(7), true), None, "no news");
        assert_eq!(
            verdicts.result(&check, at(8), false),
            Some(Health { healthy: false, kill: false })
        );
        assert_eq!(
            verdicts.result(&check, at(9), false),
            Some(Health { healthy: false, kill: true })
        );
    }
}
