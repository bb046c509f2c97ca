//! A container's list of devices, as version 1 of cgroups keeps it in the kernel. In version 2 there is none: here it is
//! what the [program](super::program) is made of, and what the agent after this one finds beside the container.

use std::collections::BTreeMap;
use std::fmt;

/// Making a device file; as the kernel's `BPF_DEVCG_ACC_*`, as the others.
pub(super) const MAKE: u32 = 1;
/// Reading.
pub(super) const READ: u32 = 2;
/// Writing.
pub(super) const WRITE: u32 = 4;

/// Which devices: the kind, and the numbers, or any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Devices {
    /// Characters, not blocks.
    pub(super) is_char: bool,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
}

/// What may be done to which devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct List(BTreeMap<Devices, u32>);

/// `c 1:3 rwm`.
fn parse(line: &str) -> Option<(Devices, u32)> {
    let mut parts = line.split_whitespace();
    let is_char = match parts.next()? {
        "c" => true,
        "b" => false,
        _ => return None,
    };
    let number = |text: &str| match text {
        "*" => Some(None),
        number => number.parse().ok().map(Some),
    };
    let (major, minor) = parts.next()?.split_once(':')?;
    let devices = Devices { is_char, major: number(major)?, minor: number(minor)? };
    let access = parts.next()?.chars().try_fold(0, |access, sign| match sign {
        'r' => Some(access | READ),
        'w' => Some(access | WRITE),
        'm' => Some(access | MAKE),
        _ => None,
    })?;
    parts.next().is_none().then_some((devices, access))
}

impl List {
    /// The list of lines in the kernel's form; those that it doesn't understand are of no effect.
    pub(in super::super) fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut list = Self::default();
        for line in lines {
            list.allow(line);
        }
        list
    }

    /// Adds a line, as `devices.allow`: what is allowed of the same devices already stays.
    pub(in super::super) fn allow(&mut self, line: &str) {
        if let Some((devices, access)) = parse(line) {
            *self.0.entry(devices).or_default() |= access;
        }
    }

    /// Takes from a line, as `devices.deny`.
    pub(in super::super) fn deny(&mut self, line: &str) {
        let Some((devices, denied)) = parse(line) else { return };
        if let Some(access) = self.0.get_mut(&devices) {
            *access &= !denied;
        }
        self.0.retain(|_, access| *access != 0);
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = (Devices, u32)> {
        self.0.iter().map(|(devices, access)| (*devices, *access))
    }
}

impl fmt::Display for List {
    /// As `devices.list` shows it.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |own| own.to_string());
        for (Devices { is_char, major, minor }, access) in self.rules() {
            let kind = if is_char { 'c' } else { 'b' };
            let signs = [('r', READ), ('w', WRITE), ('m', MAKE)];
            let signs = signs.iter().filter(|(_, own)| access & own != 0).map(|(sign, _)| sign);
            let signs: String = signs.collect();
            writeln!(to, "{kind} {}:{} {signs}", number(major), number(minor))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_add_up_and_take_away() {
        let mut list = List::of(["c 195:0 r", "c 195:0 w", "b *:* m", "c 136:* rwm"]);
        assert_eq!(list.to_string(), "b *:* m\nc 136:* rwm\nc 195:0 rw\n");
        assert_eq!(List::of(list.to_string().lines()), list);
        list.deny("c 195:0 w");
        list.deny("c 195:1 rw");
        list.deny("b *:* rwm");
        assert_eq!(list.to_string(), "c 136:* rwm\nc 195:0 r\n");
        for line in
            ["", "a *:* rwm", "c 1 r", "c 1:x r", "c 1:3 x", "c 1:3 r r", "c 1:99999999999 r"]
        {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
