//! Connections as TCP makes them: in order on each, in no order between them, and a break loses what is under way.
//!
//! A connection goes one way, from a place to a place. The network holds what is under way; the simulation puts
//! [`Arrival`]s on its agenda and asks [`Network::arrive`] what really comes. While two places are cut off from each
//! other, what is sent waits: it comes when they are joined again, unless the connection broke before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::Random;

/// A place: whatever the simulation numbers so.
pub type Place = usize;

/// Something may arrive on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    connection: u64,
}

#[derive(Debug)]
struct Connection<M> {
    from: Place,
    to: Place,
    waiting: VecDeque<M>,
    /// When the last of what is under way arrives.
    last: u64,
    /// Arrivals that came while the places were cut off.
    held: usize,
}

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Longest usual delay, in milliseconds.
    pub usual: u64,
    /// Longest rare one.
    pub rare: u64,
    /// How many of a thousand take longer than usual.
    pub rarely: u64,
}

/// All connections.
#[derive(Debug)]
pub struct Network<M> {
    connections: BTreeMap<u64, Connection<M>>,
    current: BTreeMap<(Place, Place), u64>,
    cut: BTreeSet<(Place, Place)>,
    made: u64,
    /// How long things take from now on.
    pub pace: Pace,
}

impl<M> Network<M> {
    /// A network without connections.
    pub fn new(pace: Pace) -> Self {
        Self {
            connections: BTreeMap::new(),
            current: BTreeMap::new(),
            cut: BTreeSet::new(),
            made: 0,
            pace,
        }
    }

    /// Sends on the connection between two places, a new one if there is none: what arrives, and when.
    pub fn send(
        &mut self,
        random: &mut Random,
        now: u64,
        from: Place,
        to: Place,
        message: M,
    ) -> (u64, Arrival) {
        let made = &mut self.made;
        let id = *self.current.entry((from, to)).or_insert_with(|| {
            *made += 1;
            *made
        });
        let connection = self.connections.entry(id).or_insert_with(|| Connection {
            from,
            to,
            waiting: VecDeque::new(),
            last: now,
            held: 0,
        });
        let most = if random.chance(self.pace.rarely) { self.pace.rare } else { self.pace.usual };
        let at = connection.last.max(now + 1 + random.below(most));
        connection.last = at;
        connection.waiting.push_back(message);
        (at, Arrival { connection: id })
    }

    /// From where to where something goes, while its connection holds.
    pub fn ends(&self, arrival: Arrival) -> Option<(Place, Place)> {
        let connection = self.connections.get(&arrival.connection)?;
        Some((connection.from, connection.to))
    }

    /// What arrives, from where to where; nothing if the connection broke, or is held up.
    pub fn arrive(&mut self, arrival: Arrival) -> Option<(Place, Place, M)> {
        let connection = self.connections.get_mut(&arrival.connection)?;
        let (from, to) = (connection.from, connection.to);
        if self.cut.contains(&pair(from, to)) {
            connection.held += 1;
            return None;
        }
        let message = connection.waiting.pop_front()?;
        let is_over = connection.waiting.is_empty()
            && self.current.get(&(from, to)) != Some(&arrival.connection);
        if is_over {
            self.connections.remove(&arrival.connection);
        }
        Some((from, to, message))
    }

    /// The next message from one place to another goes on a new connection; what is under way may still arrive.
    pub fn dial_anew(&mut self, from: Place, to: Place) {
        if let Some(old) = self.current.remove(&(from, to))
            && self.connections.get(&old).is_some_and(|old| old.waiting.is_empty())
        {
            self.connections.remove(&old);
        }
    }

    /// Breaks the connection from one place to another; whether there was one.
    pub fn break_off(&mut self, from: Place, to: Place) -> bool {
        let old = self.current.remove(&(from, to));
        old.is_some_and(|old| self.connections.remove(&old).is_some())
    }

    /// Places that a place has connections to, and those that have one to it.
    pub fn peers(&self, place: Place) -> (Vec<Place>, Vec<Place>) {
        let of = |keep: fn(&(Place, Place)) -> Place, other: fn(&(Place, Place)) -> Place| {
            let all = self.current.keys().filter(|ends| keep(ends) == place);
            all.map(other).collect()
        };
        (of(|ends| ends.0, |ends| ends.1), of(|ends| ends.1, |ends| ends.0))
    }

    /// Connections that have been holding something up since their places were cut off.
    pub fn held_up(&self) -> Vec<(Place, Place)> {
        let held = |(ends, id): (&(Place, Place), &u64)| {
            let connection = self.connections.get(id)?;
            (connection.held > 0).then_some(*ends)
        };
        self.current.iter().filter_map(held).collect()
    }

    /// Cuts two places off from each other.
    pub fn cut(&mut self, one: Place, other: Place) {
        self.cut.insert(pair(one, other));
    }

    /// Whether two places are cut off from each other.
    pub fn is_cut(&self, one: Place, other: Place) -> bool {
        self.cut.contains(&pair(one, other))
    }

    /// Joins all places again; what was held up arrives now.
    pub fn join_all(&mut self) -> Vec<Arrival> {
        self.cut.clear();
        let mut arrivals = Vec::new();
        for (id, connection) in &mut self.connections {
            let held = std::mem::take(&mut connection.held);
            arrivals.extend(std::iter::repeat_n(Arrival { connection: *id }, held));
        }
        arrivals
    }
}

fn pair(one: Place, other: Place) -> (Place, Place) {
    (one.min(other), one.max(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> (Network<u32>, Random) {
        (Network::new(Pace { usual: 50, rare: 500, rarely: 100 }), Random::new(7))
    }

    #[test]
    fn a_connection_keeps_its_order_and_a_new_one_may_overtake() {
        let (mut network, mut random) = network();
        let mut overtaken = false;
        for round in 0..50 {
            let mut under_way: Vec<(u64, Arrival)> =
                (0..10).map(|number| network.send(&mut random, 0, 1, 2, number)).collect();
            network.dial_anew(1, 2);
            under_way.push(network.send(&mut random, 0, 1, 2, 99));
            under_way.sort_by_key(|(at, _)| *at);
            let came: Vec<u32> = under_way
                .into_iter()
                .filter_map(|(_, arrival)| network.arrive(arrival).map(|(_, _, number)| number))
                .collect();
            let old: Vec<u32> = came.iter().copied().filter(|number| *number != 99).collect();
            assert_eq!(old, (0..10).collect::<Vec<_>>(), "round {round}");
            overtaken |= came.last() != Some(&99);
            network.break_off(1, 2);
        }
        assert!(overtaken);
    }

    #[test]
    fn what_is_held_up_arrives_later_or_never() {
        let (mut network, mut random) = network();
        network.cut(2, 1);
        let (_, first) = network.send(&mut random, 0, 1, 2, 1);
        let (_, other) = network.send(&mut random, 0, 2, 1, 2);
        assert!(network.arrive(first).is_none() && network.arrive(other).is_none());
        assert_eq!(network.held_up(), [(1, 2), (2, 1)]);
        assert!(network.break_off(2, 1));
        let arrivals = network.join_all();
        let came: Vec<_> = arrivals.into_iter().filter_map(|held| network.arrive(held)).collect();
        assert_eq!(came, [(1, 2, 1)]);
    }
}
