//! Roles as a tree, and whose turn it is: dominant resource fairness at every level (`master/allocator/mesos/sorter`).
//!
//! A role's own frameworks compete with the roles below it as if they were one more role there. Who holds the least
//! comes first, then who was given something less often, then the name.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mesos::entropy::Entropy;

use super::quantities::{Quantities, Quota};

/// How turns are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sorter {
    /// By dominant share.
    #[default]
    Drf,
    /// By lot, each with its weight.
    Random,
}

/// What somebody holds, and how often it was given something.
#[derive(Debug, Clone, Default)]
struct Tally {
    held: Quantities,
    count: u64,
}

#[derive(Debug, Clone)]
struct Rank {
    share: f64,
    count: u64,
    name: Arc<str>,
    of: u32,
    /// A framework's seat; roles have none.
    seat: u32,
}

fn by_rank(a: &Rank, b: &Rank) -> Ordering {
    a.share
        .total_cmp(&b.share)
        .then_with(|| a.count.cmp(&b.count))
        .then_with(|| a.name.cmp(&b.name))
}

/// Where somebody belongs among others that are in order.
fn place(ranks: &mut Vec<Rank>, rank: Rank) {
    let at = ranks.partition_point(|other| by_rank(other, &rank) == Ordering::Less);
    ranks.insert(at, rank);
}

/// Somebody's share is another now.
fn rank_anew(ranks: &mut Vec<Rank>, of: u32, share: f64, count: u64) {
    let Some(at) = ranks.iter().position(|rank| rank.of == of) else { return };
    let mut rank = ranks.remove(at);
    (rank.share, rank.count) = (share, count);
    place(ranks, rank);
}

#[derive(Debug)]
struct Client {
    name: Arc<str>,
    /// The number of this framework in this role, for what agents note of it; small, and given to another one later.
    seat: u32,
    tally: Tally,
    /// Whether it is one of the framework's roles.
    is_subscribed: bool,
    /// Whether it wants offers in it now.
    is_active: bool,
}

#[derive(Debug)]
struct Node {
    name: Arc<str>,
    parent: u32,
    weight: f64,
    quota: Quota,
    own: Tally,
    subtree: Tally,
    /// What it and all below hold that is neither reserved nor revocable.
    unreserved: Quantities,
    /// Roles right below, and the node itself for its own frameworks.
    children: Vec<Rank>,
    clients: hashbrown::HashMap<u32, Client>,
    ranked: Vec<Rank>,
    order: Option<Arc<[(u32, u32)]>>,
}

/// All roles that somebody has, has reserved or has a quota of.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    by_name: HashMap<String, u32>,
    unused: Vec<u32>,
    total: Quantities,
    excluded: BTreeSet<String>,
    is_stale: bool,
    order: Option<Arc<[u32]>>,
    seats: Seats,
}

/// Who sits where.
#[derive(Debug, Default)]
struct Seats {
    next: u32,
    /// Free ones, of which nothing is noted any more.
    free: Vec<u32>,
    /// Left ones, of which agents still have notes.
    left: Vec<u32>,
}

impl Seats {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

const ROOT: u32 = 0;

fn node(name: &str, parent: u32) -> Node {
    Node {
        name: name.into(),
        parent,
        weight: 1.0,
        quota: Quota::default(),
        own: Tally::default(),
        subtree: Tally::default(),
        unreserved: Quantities::default(),
        children: Vec::new(),
        clients: hashbrown::HashMap::new(),
        ranked: Vec::new(),
        order: None,
    }
}

impl Tree {
    /// An empty one; what is excluded does not count for fairness.
    pub(super) fn new(excluded: BTreeSet<String>) -> Self {
        Self {
            nodes: vec![node("", ROOT)],
            by_name: HashMap::new(),
            unused: Vec::new(),
            total: Quantities::default(),
            excluded,
            is_stale: false,
            order: None,
            seats: Seats::default(),
        }
    }

    fn at(&self, role: u32) -> &Node {
        &self.nodes[role as usize]
    }

    fn at_mut(&mut self, role: u32) -> &mut Node {
        &mut self.nodes[role as usize]
    }

    /// A role's number, if there is such a role.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// A role's number; it is there from now on.
    pub(super) fn insert(&mut self, name: &str) -> u32 {
        if let Some(known) = self.find(name) {
            return known;
        }
        let parent = match name.rsplit_once('/') {
            Some((above, _)) => self.insert(above),
            None => ROOT,
        };
        let new = node(name, parent);
        let role = match self.unused.pop() {
            Some(role) => {
                self.nodes[role as usize] = new;
                role
            }
            None => {
                self.nodes.push(new);
                (self.nodes.len() - 1) as u32
            }
        };
        self.by_name.insert(name.to_owned(), role);
        let rank = Rank { share: 0.0, count: 0, name: name.into(), of: role, seat: 0 };
        place(&mut self.at_mut(parent).children, rank);
        let name = format!("{name}/.").into();
        let own = Rank { share: 0.0, count: 0, name, of: role, seat: 0 };
        self.at_mut(role).children.push(own);
        self.changed(role);
        role
    }

    /// Forgets a role that nobody needs any more, and those above it that only it needed.
    fn prune(&mut self, role: u32) {
        let node = self.at(role);
        let is_needed = role == ROOT
            // Forgotten before: its number may be another's by now.
            || self.by_name.get(&*node.name) != Some(&role)
            || node.children.len() > 1
            || !node.clients.is_empty()
            || (node.weight - 1.0).abs() > f64::EPSILON
            || !node.quota.is_default()
            || !node.subtree.held.is_empty();
        if is_needed {
            return;
        }
        let (parent, name) = (node.parent, node.name.clone());
        self.by_name.remove(&*name);
        self.at_mut(parent).children.retain(|rank| rank.of != role);
        self.unused.push(role);
        self.order = None;
        self.prune(parent);
    }

    /// A role's name.
    pub(super) fn name(&self, role: u32) -> &Arc<str> {
        &self.at(role).name
    }

    /// The roles above, nearest first.
    fn ancestors(&self, role: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(role), |role| Some(self.at(*role).parent))
            .skip(1)
            .take_while(|role| *role != ROOT)
    }

    /// The role at the top above one, or itself.
    pub(super) fn top(&self, role: u32) -> u32 {
        self.ancestors(role).last().unwrap_or(role)
    }

    /// What the cluster has.
    pub(super) fn set_total(&mut self, change: impl FnOnce(&mut Quantities)) {
        change(&mut self.total);
        self.is_stale = true;
    }

    /// What the cluster has.
    #[cfg(test)]
    pub(super) fn total(&self) -> &Quantities {
        &self.total
    }

    /// A role's weight.
    pub(super) fn set_weight(&mut self, name: &str, weight: f64) {
        let role = self.insert(name);
        self.at_mut(role).weight = weight;
        self.changed(role);
        self.prune(role);
    }

    /// A role's quota.
    pub(super) fn set_quota(&mut self, name: &str, quota: Quota) {
        let role = self.insert(name);
        self.at_mut(role).quota = quota;
        self.prune(role);
    }

    /// A role's quota.
    pub(super) fn quota(&self, role: u32) -> &Quota {
        &self.at(role).quota
    }

    /// Roles that have a quota.
    pub(super) fn with_quota(&self) -> impl Iterator<Item = (u32, &Quota)> {
        self.by_name
            .values()
            .map(|role| (*role, &self.at(*role).quota))
            .filter(|(_, quota)| !quota.is_default())
    }

    /// What a role and all below hold that is neither reserved nor revocable.
    pub(super) fn unreserved(&self, role: u32) -> &Quantities {
        &self.at(role).unreserved
    }

    /// The largest part of anything in the cluster that a role and all below hold.
    pub(super) fn dominant_share(&self, role: u32) -> f64 {
        self.at(role).subtree.held.share_of(&self.total, &self.excluded)
    }

    /// A framework has a role, and wants offers in it or not.
    pub(super) fn subscribe(
        &mut self,
        role: u32,
        framework: u32,
        name: &Arc<str>,
        is_active: bool,
    ) {
        let client = self.client(role, framework, name);
        client.is_subscribed = true;
        client.is_active = is_active;
        self.rank_clients(role);
    }

    fn client(&mut self, role: u32, framework: u32, name: &Arc<str>) -> &mut Client {
        self.order = None;
        let clients = &mut self.nodes[role as usize].clients;
        clients.entry(framework).or_insert_with(|| Client {
            name: name.clone(),
            seat: self.seats.take(),
            tally: Tally::default(),
            is_subscribed: false,
            is_active: false,
        })
    }

    /// A framework wants offers in a role from now on, or not.
    pub(super) fn activate(&mut self, role: u32, framework: u32, is_active: bool) {
        if let Some(client) = self.at_mut(role).clients.get_mut(&framework) {
            client.is_active = is_active;
            self.rank_clients(role);
        }
    }

    /// A framework has a role no more; what it holds there it keeps.
    pub(super) fn unsubscribe(&mut self, role: u32, framework: u32) {
        let node = &mut self.nodes[role as usize];
        if let Some(client) = node.clients.get_mut(&framework) {
            client.is_subscribed = false;
            client.is_active = false;
            if client.tally.held.is_empty() {
                self.seats.left.push(client.seat);
                node.clients.remove(&framework);
            }
        }
        self.rank_clients(role);
        self.order = None;
        self.prune(role);
    }

    /// A framework's seat in a role, if it is known there.
    pub(super) fn seat(&self, role: u32, framework: u32) -> Option<u32> {
        self.at(role).clients.get(&framework).map(|client| client.seat)
    }

    /// Seats that were left, and can be given to others once nothing is noted of them.
    pub(super) fn clear_seats(&mut self, forget: impl FnOnce(&[u32])) {
        if !self.seats.left.is_empty() {
            forget(&self.seats.left);
            self.seats.free.append(&mut self.seats.left);
        }
    }

    /// A framework gets something in a role.
    pub(super) fn give(
        &mut self,
        role: u32,
        framework: (u32, &Arc<str>),
        held: &Quantities,
        unreserved: &Quantities,
    ) {
        let client = self.client(role, framework.0, framework.1);
        client.tally.held.plus(held);
        client.tally.count += 1;
        let own = &mut self.at_mut(role).own;
        own.held.plus(held);
        own.count += 1;
        let above: Vec<u32> = std::iter::once(role).chain(self.ancestors(role)).collect();
        for role in above {
            let node = self.at_mut(role);
            node.subtree.held.plus(held);
            node.subtree.count += 1;
            node.unreserved.plus(unreserved);
        }
        self.rank_client(role, framework.0);
        self.changed(role);
    }

    /// A framework gives something back.
    pub(super) fn take(
        &mut self,
        role: u32,
        framework: u32,
        held: &Quantities,
        unreserved: &Quantities,
    ) {
        let node = &mut self.nodes[role as usize];
        if let Some(client) = node.clients.get_mut(&framework) {
            client.tally.held.minus(held);
            if client.tally.held.is_empty() && !client.is_subscribed {
                self.seats.left.push(client.seat);
                node.clients.remove(&framework);
                self.order = None;
            }
        }
        self.at_mut(role).own.held.minus(held);
        let above: Vec<u32> = std::iter::once(role).chain(self.ancestors(role)).collect();
        for role in above {
            let node = self.at_mut(role);
            node.subtree.held.minus(held);
            node.unreserved.minus(unreserved);
        }
        self.rank_client(role, framework);
        self.changed(role);
        self.prune(role);
    }

    /// The shares of a role, and of all above, are others now.
    fn changed(&mut self, role: u32) {
        self.order = None;
        if self.is_stale {
            return; // All are ranked anew before the next round.
        }
        let mut at = role;
        self.rank_own(role);
        while at != ROOT {
            let parent = self.at(at).parent;
            let node = self.at(at);
            let new = node.subtree.held.share_of(&self.total, &self.excluded) / node.weight;
            let count = node.subtree.count;
            rank_anew(&mut self.at_mut(parent).children, at, new, count);
            at = parent;
        }
    }

    fn rank_own(&mut self, role: u32) {
        let node = &self.nodes[role as usize];
        let new = node.own.held.share_of(&self.total, &self.excluded);
        let count = node.own.count;
        rank_anew(&mut self.at_mut(role).children, role, new, count);
    }

    fn rank_client(&mut self, role: u32, framework: u32) {
        let node = &mut self.nodes[role as usize];
        let Some(client) = node.clients.get(&framework) else {
            self.rank_clients(role);
            return;
        };
        let new = client.tally.held.share_of(&self.total, &self.excluded);
        rank_anew(&mut node.ranked, framework, new, client.tally.count);
        node.order = None;
    }

    fn rank_clients(&mut self, role: u32) {
        let (total, excluded) = (&self.total, &self.excluded);
        let node = &mut self.nodes[role as usize];
        node.ranked = node
            .clients
            .iter()
            .filter(|(_, client)| client.is_active)
            .map(|(of, client)| Rank {
                share: client.tally.held.share_of(total, excluded),
                count: client.tally.count,
                name: client.name.clone(),
                of: *of,
                seat: client.seat,
            })
            .collect();
        node.ranked.sort_by(by_rank);
        node.order = None;
    }

    fn refresh(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let roles: Vec<u32> = self.by_name.values().copied().collect();
        for role in &roles {
            self.rank_clients(*role);
            self.rank_own(*role);
        }
        for role in roles {
            self.changed(role);
        }
    }

    /// Roles with frameworks, in whose order it is their turn.
    pub(super) fn roles(&mut self, sorter: Sorter, entropy: &mut Entropy) -> Arc<[u32]> {
        self.refresh();
        if sorter == Sorter::Random {
            return self.random_roles(entropy);
        }
        if let Some(order) = &self.order {
            return order.clone();
        }
        let mut order = Vec::new();
        self.collect(ROOT, &mut order);
        let order: Arc<[u32]> = order.into();
        self.order = Some(order.clone());
        order
    }

    fn collect(&self, role: u32, into: &mut Vec<u32>) {
        for rank in &self.at(role).children {
            if rank.of != role {
                self.collect(rank.of, into);
            } else if !self.at(role).clients.is_empty() {
                into.push(role);
            }
        }
    }

    fn random_roles(&self, entropy: &mut Entropy) -> Arc<[u32]> {
        let mut weighted = Vec::new();
        self.collect_weighted(ROOT, 1.0, &mut weighted);
        let mut drawn: Vec<(f64, u32)> = weighted
            .into_iter()
            // The smallest of exponentials is each with a chance by its weight.
            .map(|(role, weight)| (-(1.0 - entropy.fraction()).ln() / weight, role))
            .collect();
        drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
        drawn.into_iter().map(|(_, role)| role).collect()
    }

    fn collect_weighted(&self, role: u32, weight: f64, into: &mut Vec<(u32, f64)>) {
        let node = self.at(role);
        let weight_of = |rank: &Rank| if rank.of == role { 1.0 } else { self.at(rank.of).weight };
        let competing: Vec<&Rank> = node
            .children
            .iter()
            .filter(|rank| rank.of != role || !node.clients.is_empty())
            .collect();
        let sum: f64 = competing.iter().map(|rank| weight_of(rank)).sum();
        for rank in competing {
            let part = weight * weight_of(rank) / sum;
            if rank.of == role {
                into.push((role, part));
            } else {
                self.collect_weighted(rank.of, part, into);
            }
        }
    }

    /// A role's frameworks that want offers, with their seats, in whose order it is their turn.
    pub(super) fn clients(
        &mut self,
        role: u32,
        sorter: Sorter,
        entropy: &mut Entropy,
    ) -> Arc<[(u32, u32)]> {
        self.refresh();
        let node = self.at_mut(role);
        let client = |rank: &Rank| (rank.of, rank.seat);
        if sorter == Sorter::Random {
            let mut drawn: Vec<(u32, u32)> = node.ranked.iter().map(client).collect();
            entropy.shuffle(&mut drawn);
            return drawn.into();
        }
        if let Some(order) = &node.order {
            return order.clone();
        }
        let order: Arc<[(u32, u32)]> = node.ranked.iter().map(client).collect();
        node.order = Some(order.clone());
        order
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, u32)> {
        self.by_name.iter().map(|(name, role)| (name.as_str(), *role))
    }
}
