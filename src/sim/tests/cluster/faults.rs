//! What goes wrong.

use super::{CALM, Happening, MASTERS, World};

impl World {
    fn places(&self) -> usize {
        MASTERS + self.agents.len() + self.schedulers.len()
    }

    /// Perhaps something goes wrong now.
    pub(super) fn trouble(&mut self) {
        let places = self.places() as u64;
        let victim = self.random.below(places) as usize;
        if self.random.chance(6) {
            let other = self.random.below(places) as usize;
            if victim != other {
                self.network.cut(victim, other);
            }
        }
        if self.random.chance(3) {
            // One alone.
            for other in (0..self.places()).filter(|other| *other != victim) {
                self.network.cut(victim, other);
            }
            self.checks.count("isolated");
        }
        if self.random.chance(15) {
            self.join();
        }
        for (from, to) in self.network.held_up() {
            if self.random.chance(20) {
                self.breaks(from, to);
            }
        }
        if self.random.chance(12) {
            let other = self.random.below(places) as usize;
            self.breaks(victim, other);
        }
        if self.random.chance(6) && self.is_up(victim) {
            self.crash(victim);
        }
        if self.random.chance(6) {
            let until = self.now() + self.random.between(500, 12_000);
            if victim < MASTERS {
                self.masters[victim].paused_until = until;
            } else if let Some(agent) = self.agents.get_mut(victim - MASTERS) {
                agent.paused_until = until;
            }
        }
        if self.random.chance(4) {
            let skew = self.random.below(7200) as f64 - 3600.0;
            self.skew.insert(victim, skew);
        }
        if self.random.chance(6) {
            self.leave_zookeeper(victim);
        }
        if self.random.chance(20) && !self.zookeeper.away.is_empty() {
            self.zookeeper.away.clear();
            self.leader_may_have_changed();
        }
        if self.random.chance(10) {
            let index = self.random.below(self.agents.len() as u64) as usize;
            if self.agents[index].paused_until <= self.now() {
                self.break_executor(index);
            }
        }
    }

    /// A process can't reach ZooKeeper; of a master, ZooKeeper and itself give the session up, whoever is first.
    fn leave_zookeeper(&mut self, victim: usize) {
        if self.zookeeper.away.contains(&victim) {
            return;
        }
        self.zookeeper.away.push(victim);
        if victim < MASTERS && self.masters[victim].is_up() {
            let life = self.masters[victim].life;
            let (by_it, by_itself) =
                (self.random.between(6000, 10_000), self.random.between(5000, 14_000));
            self.agenda.after(by_it, Happening::Expires(victim, life));
            self.agenda.after(by_itself, Happening::Loses(victim, life));
        }
    }

    fn crash(&mut self, victim: usize) {
        if victim < MASTERS {
            self.crash_master(victim);
        } else if victim - MASTERS < self.agents.len() {
            self.crash_agent(victim - MASTERS);
        } else {
            self.crash_scheduler(victim - MASTERS - self.agents.len());
        }
    }

    fn join(&mut self) {
        for arrival in self.network.join_all() {
            self.agenda.after(1, Happening::Arrives(arrival));
        }
    }

    /// Nothing goes wrong from now on.
    pub(super) fn end_trouble(&mut self) {
        self.tell(|| "calm".to_owned());
        self.is_calm = true;
        self.network.pace = CALM;
        self.join();
        self.zookeeper.away.clear();
        let now = self.now();
        for master in &mut self.masters {
            master.paused_until = now;
        }
        for agent in &mut self.agents {
            agent.paused_until = now;
        }
        self.leader_may_have_changed();
    }
}
