//! What the older endpoints show of one moment.

use std::sync::Arc;

use mesos::flags::Values;
use serde::{Serialize, Serializer};

use super::seen::Sight;
use super::{roles, state, summary};

/// What is shown.
#[derive(Debug)]
pub enum View {
    /// `/state`, of a master that was started at a time (in seconds since 1970), with flags.
    State(f64, Arc<Values>),
    /// `/state-summary`, of a master with flags.
    Summary(Arc<Values>),
    /// `/slaves`, all or the one named.
    Slaves(Option<String>),
    /// `/frameworks`, all or the one named.
    Frameworks(Option<String>),
    /// `/tasks`.
    Tasks(summary::TaskQuery),
    /// `/roles`.
    Roles,
}

/// It, of one moment, for somebody.
pub struct Shown<'a> {
    /// What.
    pub view: &'a View,
    /// Of which moment, for whom.
    pub sight: Sight<'a>,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { view, sight } = *self;
        match view {
            View::State(start_time, flags) => {
                state::state(serializer, sight, *start_time, flags.as_strings())
            }
            View::Summary(flags) => summary::summary(serializer, sight, flags.as_strings()),
            View::Slaves(only) => state::slaves(serializer, sight, only.as_deref()),
            View::Frameworks(only) => state::frameworks(serializer, sight, only.as_deref()),
            View::Tasks(query) => summary::tasks(serializer, sight, query),
            View::Roles => roles::shown(sight).serialize(serializer),
        }
    }
}
