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
    /// What the oracle says, where there is one (`oraclePath`): whether this member may go on without the other.
    oracle: Option<bool>,
}

impl Membership {
    /// What files say: the configuration in force, and one that was proposed when the server ended.
    pub fn new(
        id: i64,
        current: Configuration,
        proposed: Option<Configuration>,
        is_dynamic: bool,
    ) -> Self {
        let mut members = Self { id, current, proposed: None, is_dynamic, oracle: None };
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

    /// What the oracle says now. It is heeded while there are two voters (`QuorumOracleMaj`).
    pub fn set_oracle(&mut self, grants: bool) {
        self.oracle = Some(grants);
    }

    fn heeded_oracle(&self) -> Option<bool> {
        let is_pair = self.proposed.is_none() && self.current.voters().count() == 2;
        self.oracle.filter(|_| is_pair)
    }

    /// Whether this member is a quorum by itself, as the oracle has found the other one to have failed.
    pub fn may_stand_alone(&self) -> bool {
        self.heeded_oracle() == Some(true) && self.current.is_voter(self.id)
    }

    /// Whether the oracle has this member follow whoever says that it leads: no quorum can say so.
    pub fn must_follow(&self) -> bool {
        self.heeded_oracle() == Some(false)
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
    fn the_oracle_is_heeded_by_one_of_two_voters() {
        for (voters, id, is_heeded) in [(2, 1, true), (3, 1, false)] {
            let configuration = Configuration::for_tests(voters, 0);
            let mut members = Membership::new(id, configuration, None, true);
            assert!(!members.may_stand_alone() && !members.must_follow());
            members.set_oracle(true);
            assert_eq!((members.may_stand_alone(), members.must_follow()), (is_heeded, false));
            members.set_oracle(false);
            assert_eq!((members.may_stand_alone(), members.must_follow()), (false, is_heeded));
            members.propose(Configuration::for_tests(3, 0).at_version(1));
            assert!(!members.must_follow(), "a change needs the others");
        }
    }

    #[test]
    fn without_reconfiguration_nothing_is_taken_over() {
        let mut members = Membership::new(1, Configuration::for_tests(3, 0), None, false);
        assert!(!members.propose(Configuration::for_tests(5, 0).at_version(7)));
        assert_eq!(members.activate(Configuration::for_tests(5, 0).at_version(7)), None);
    }
}
