//! What goes wrong, for the person who has to put it right: where, what, why, and what to do next.

use std::fmt;
use std::process::ExitCode;

/// What kind of failure it was, as the exit code tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something failed on a host: exit code 1.
    Failed,
    /// The command line or the inventory is wrong: exit code 2.
    Usage,
    /// A host can't be reached: exit code 4.
    Unreachable,
    /// A host lets nobody in with what was offered: exit code 4, too.
    Refused,
    /// A host or the packages are not fit for what is asked; nothing was changed: exit code 5.
    Preflight,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable | Self::Refused => 4,
            Self::Preflight => 5,
        }
    }
}

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
pub struct Problem {
    /// The exit code's kind.
    pub kind: Kind,
    /// The host that it happened on, as the operator calls it.
    pub host: Option<String>,
    /// What failed.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do next.
    pub next: String,
}

impl Problem {
    /// A problem of the command line or the inventory.
    #[must_use]
    pub fn usage(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            kind: Kind::Usage,
            host: None,
            what: what.into(),
            why: why.into(),
            next: next.into(),
        }
    }

    /// A problem of one host.
    #[must_use]
    pub fn on(
        host: &str,
        kind: Kind,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            host: Some(host.to_owned()),
            what: what.into(),
            why: why.into(),
            next: next.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}: ")?;
        }
        write!(f, "{}", self.what)?;
        for (label, text) in [("why: ", &self.why), ("next:", &self.next)] {
            let mut lines = text.lines();
            if let Some(first) = lines.next() {
                write!(f, "\n  {label} {first}")?;
            }
            for line in lines {
                write!(f, "\n        {line}")?;
            }
        }
        Ok(())
    }
}

/// Everything that went wrong: all hosts are asked before anything is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The exit code: that of the worst kind, where what failed half-way is worse than what was refused.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        let code = self.0.iter().map(|problem| problem.kind.code()).min().unwrap_or(1);
        ExitCode::from(code)
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Keeps the good results, or gives everything that went wrong.
///
/// # Errors
/// When any of the results is an error.
pub fn all<T>(results: impl IntoIterator<Item = Result<T, Problem>>) -> Result<Vec<T>, Problems> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(problem) => bad.push(problem),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(Problems(bad)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_host_what_why_and_next() {
        let problem =
            Problem::on("h1", Kind::Unreachable, "no connection", "refused\nby h1", "start sshd");
        assert_eq!(
            problem.to_string(),
            "h1: no connection\n  why:  refused\n        by h1\n  next: start sshd"
        );
    }

    #[test]
    fn what_failed_half_way_decides_the_exit_code() {
        let at = |kind| Problem::on("h", kind, "", "", "");
        let both = Problems(vec![at(Kind::Preflight), at(Kind::Failed)]);
        assert_eq!(format!("{:?}", both.exit_code()), format!("{:?}", ExitCode::from(1)));
        assert!(
            all([Ok(1), Err(at(Kind::Preflight)), Err(at(Kind::Usage))])
                .is_err_and(|all| all.0.len() == 2)
        );
    }
}
