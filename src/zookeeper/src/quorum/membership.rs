//! Which configurations count: the one in force, and one that is proposed but not yet agreed on.
//!
//! While a change is proposed everything needs quorums of both (`Leader.propose`). Version 0 stands for what was only
//! written into files; with `reconfigEnabled` the first leader gives it the number of its epoch (ZOOKEEPER-1783).

use super::configuration::Configuration;

/// The ensemble as one member knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// This member.
    pub id: i64,
    current: Configuration,
    /// Newer than the current one.
    proposed: Option<Configuration>,
    /// `reconfigEnabled`: whether configurations of others are taken over.
    is_dynamic: bool,
}

impl Membership {
    /// What files say: the configuration in force, and one that was proposed when the server ended.
    pub fn new(
        id: i64,
        current: Configuration,
        proposed: Option<Configuration>,
        is_dynamic: bool,
    ) -> Self {
        let mut members = Self { id, current, proposed: None, is_dynamic };
        if let Some(proposed) = proposed {
            members.propose(proposed);
        }
        members
    }

    /// The configuration in force.
    pub fn current(&self) -> &Configuration {
        &self.current
    }

    /// One that is proposed, and newer than that in force.
    pub fn proposed(&self) -> Option<&Configuration> {
        self.proposed.as_ref()
    }

    /// The newest that is known.
    pub fn newest(&self) -> &Configuration {
        self.proposed.as_ref().unwrap_or(&self.current)
    }

    /// Whether configurations change while servers run.
    pub fn is_dynamic(&self) -> bool {
        self.is_dynamic
    }

    /// Whether this member is an observer. One that no configuration names follows, but does not count.
    pub fn observes(&self) -> bool {
        self.current.is_observer(self.id)
    }

    /// Voters of both configurations, this member excepted: who is told of votes.
    pub fn electors(&self) -> impl Iterator<Item = i64> + '_ {
        let proposed = self.proposed.iter().flat_map(Configuration::voters);
        let more = proposed.filter(|id| !self.current.is_voter(*id));
        self.current.voters().chain(more).filter(|id| *id != self.id)
    }

    /// Whether these are a quorum of each configuration that counts.
    pub fn is_quorum(&self, ids: impl Iterator<Item = i64> + Clone) -> bool {
        self.current.is_quorum(ids.clone())
            && self.proposed.as_ref().is_none_or(|proposed| proposed.is_quorum(ids))
    }

    /// Takes note of a configuration that is proposed; whether it is news.
    pub fn propose(&mut self, configuration: Configuration) -> bool {
        let is_news = self.is_dynamic && configuration.version > self.newest().version;
        if is_news {
            self.proposed = Some(configuration);
        }
        is_news
    }

    /// Takes over what a leader says is the newest, in place of what only this member saw; whether it is news.
    pub fn adopt(&mut self, newest: Configuration) -> bool {
        if !self.is_dynamic {
            return false;
        }
        let proposed = (newest.version > self.current.version).then_some(newest);
        let is_news = proposed != self.proposed;
        self.proposed = proposed;
        is_news
    }

    /// Puts a configuration in force; the one before, if it was an older one.
    pub fn activate(&mut self, configuration: Configuration) -> Option<Configuration> {
        if !self.is_dynamic || configuration.version <= self.current.version {
            return None;
        }
        self.proposed.take_if(|proposed| proposed.version <= configuration.version);
        Some(std::mem::replace(&mut self.current, configuration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_a_change_is_proposed_both_quorums_are_needed() {
        let three = Configuration::for_tests(3, 0);
        let five = Configuration::for_tests(5, 0).at_version(7);
        let mut members = Membership::new(1, three.clone(), None, true);
        assert!(members.is_quorum([1, 2].into_iter()));
        assert!(members.propose(five.clone()) && !members.propose(five.clone()));
        assert!(!members.is_quorum([1, 2].into_iter()) && members.is_quorum([1, 2, 4].into_iter()));
        assert_eq!(members.electors().collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(members.activate(five), Some(three.clone()));
        assert!(members.proposed().is_none() && members.is_quorum([3, 4, 5].into_iter()));
        assert_eq!(members.activate(three), None, "never back");
    }

    #[test]
    fn without_reconfiguration_nothing_is_taken_over() {
        let mut members = Membership::new(1, Configuration::for_tests(3, 0), None, false);
        assert!(!members.propose(Configuration::for_tests(5, 0).at_version(7)));
        assert_eq!(members.activate(Configuration::for_tests(5, 0).at_version(7)), None);
    }
}
