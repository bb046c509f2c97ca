//! A list of devices as a program for the kernel (`BPF_PROG_TYPE_CGROUP_DEVICE`), which it asks whenever a process of the
//! container opens a device or makes a file of one.
//!
//! The program gets a record of three numbers, `access << 16 | kind`, major and minor, and ends with 1 for yes. It
//! tries rule by rule; as in version 1, one rule has to allow all that is asked for.

use super::list::{Devices, List};

/// The kernel's `BPF_DEVCG_DEV_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
/// All that can be done to a device.
const ALL: u32 = 7;

/// What instructions do, by the kernel's codes.
mod code {
    /// A word of memory into a register.
    pub(super) const LOAD: u8 = 0x61;
    /// A number into a register.
    pub(super) const SET: u8 = 0xb7;
    /// A register into another.
    pub(super) const MOVE: u8 = 0xbf;
    /// The bits of a register that a number has too.
    pub(super) const AND: u8 = 0x57;
    /// A register's bits moved to the right.
    pub(super) const SHIFT: u8 = 0x77;
    /// A jump if a register is not a number.
    pub(super) const UNLESS: u8 = 0x55;
    /// A jump if a register is not another.
    pub(super) const UNLESS_SAME: u8 = 0x5d;
    /// The end, with what register 0 has.
    pub(super) const END: u8 = 0x95;
}

/// One instruction (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    /// The register that is changed or looked at in the low half, the other one in the high half.
    registers: u8,
    offset: i16,
    number: i32,
}

const RESULT: u8 = 0;
const RECORD: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Whatever a rule needs.
const OWN: u8 = 6;

fn instruction(code: u8, register: u8, other: u8, offset: i16, number: i32) -> Instruction {
    Instruction { code, registers: register | other << 4, offset, number }
}

fn end(result: i32) -> [Instruction; 2] {
    [instruction(code::SET, RESULT, 0, 0, result), instruction(code::END, 0, 0, 0, 0)]
}

/// One rule: its conditions, each of which leads to the next rule if it isn't met, and the answer.
fn rule(devices: Devices, access: u32) -> Vec<Instruction> {
    let Devices { is_char, major, minor } = devices;
    let kind = if is_char { CHARACTER } else { BLOCK };
    let mut all = vec![instruction(code::UNLESS, KIND, 0, 0, kind)];
    if access & ALL != ALL {
        all.push(instruction(code::MOVE, OWN, ACCESS, 0, 0));
        all.push(instruction(code::AND, OWN, 0, 0, access as i32));
        all.push(instruction(code::UNLESS_SAME, OWN, ACCESS, 0, 0));
    }
    // The kernel's numbers of devices have 12 and 20 bits.
    let numbers = [(MAJOR, major), (MINOR, minor)];
    all.extend(numbers.into_iter().filter_map(|(register, number)| {
        Some(instruction(code::UNLESS, register, 0, 0, number? as i32))
    }));
    all.extend(end(1));
    let length = all.len();
    for (index, own) in all.iter_mut().enumerate() {
        if matches!(own.code, code::UNLESS | code::UNLESS_SAME) {
            // A rule has nine instructions at most.
            own.offset = (length - index - 1) as i16;
        }
    }
    all
}

/// The program that allows what a list does.
pub(super) fn program(list: &List) -> Vec<Instruction> {
    let mut all = vec![
        instruction(code::LOAD, KIND, RECORD, 0, 0),
        instruction(code::MOVE, ACCESS, KIND, 0, 0),
        instruction(code::AND, KIND, 0, 0, 0xffff),
        instruction(code::SHIFT, ACCESS, 0, 0, 16),
        instruction(code::LOAD, MAJOR, RECORD, 4, 0),
        instruction(code::LOAD, MINOR, RECORD, 8, 0),
    ];
    all.extend(list.rules().flat_map(|(devices, access)| rule(devices, access)));
    all.extend(end(0));
    all
}

#[cfg(test)]
mod tests {
    use super::super::list::{MAKE, READ, WRITE};
    use super::*;

    /// What the kernel would answer, by the meaning of its instructions.
    fn run(program: &[Instruction], record: [u32; 3]) -> u64 {
        let mut registers = [None; 11];
        let mut next = 0;
        loop {
            let Instruction { code: own, registers: named, offset, number } = program[next];
            let (to, from) = (usize::from(named & 15), usize::from(named >> 4));
            let value = |register: usize| registers[register].expect("a register that was set");
            next += 1;
            match own {
                code::LOAD => {
                    assert_eq!(from, usize::from(RECORD));
                    registers[to] = Some(u64::from(record[offset as usize / 4]));
                }
                code::SET => registers[to] = Some(number as u64),
                code::MOVE => registers[to] = Some(value(from)),
                code::AND => registers[to] = Some(value(to) & number as u64),
                code::SHIFT => registers[to] = Some(value(to) >> number),
                code::UNLESS if value(to) != number as u64 => next += offset as usize,
                code::UNLESS_SAME if value(to) != value(from) => next += offset as usize,
                code::UNLESS | code::UNLESS_SAME => {}
                code::END => return value(usize::from(RESULT)),
                other => panic!("no instruction {other:#x}"),
            }
        }
    }

    fn may(list: &List, kind: char, major: u32, minor: u32, access: u32) -> bool {
        let kind = if kind == 'c' { CHARACTER } else { BLOCK };
        let answer = run(&program(list), [access << 16 | kind as u32, major, minor]);
        assert!(answer < 2);
        answer == 1
    }

    #[test]
    fn the_kernel_is_told_to_allow_what_the_list_does_and_nothing_else() {
        let common = super::super::allowed(None).unwrap();
        let mut list = List::of(common.iter().map(String::as_str));
        list.allow("c 195:1 rw");
        list.allow("b 8:* r");
        for (kind, major, minor, access, expected) in [
            ('c', 1, 3, READ | WRITE, true),
            ('c', 1, 3, READ | WRITE | MAKE, true),
            ('b', 1, 3, READ, false),
            ('c', 1, 11, READ, false),
            ('c', 1, 11, MAKE, true),
            ('b', 259, 7, MAKE, true),
            ('c', 1, 11, READ | MAKE, false),
            ('c', 136, 4095, READ | WRITE, true),
            ('c', 137, 0, READ, false),
            ('c', 195, 1, READ | WRITE, true),
            ('c', 195, 0, READ, false),
            // One rule is to allow it all: making is another's.
            ('c', 195, 1, READ | MAKE, false),
            ('b', 8, 0, READ, true),
            ('b', 8, 1_048_575, READ, true),
            ('b', 8, 0, WRITE, false),
            ('b', 8, 0, READ | WRITE, false),
        ] {
            assert_eq!(
                may(&list, kind, major, minor, access),
                expected,
                "{kind} {major}:{minor} {access}"
            );
        }
        assert!(!may(&List::default(), 'c', 1, 3, READ));
    }

    #[test]
    fn instructions_are_what_the_kernel_reads() {
        assert_eq!(size_of::<Instruction>(), 8);
        let list = List::of(["c 1:3 r"]);
        let bytes: Vec<[u8; 8]> = program(&list)
            .iter()
            .map(|own| {
                let [low, high] = own.offset.to_le_bytes();
                let [a, b, c, d] = own.number.to_le_bytes();
                [own.code, own.registers, low, high, a, b, c, d]
            })
            .collect();
        assert_eq!(
            bytes,
            [
                [0x61, 0x12, 0, 0, 0, 0, 0, 0],
                [0xbf, 0x23, 0, 0, 0, 0, 0, 0],
                [0x57, 0x02, 0, 0, 0xff, 0xff, 0, 0],
                [0x77, 0x03, 0, 0, 16, 0, 0, 0],
                [0x61, 0x14, 4, 0, 0, 0, 0, 0],
                [0x61, 0x15, 8, 0, 0, 0, 0, 0],
                [0x55, 0x02, 7, 0, 2, 0, 0, 0],
                [0xbf, 0x36, 0, 0, 0, 0, 0, 0],
                [0x57, 0x06, 0, 0, 2, 0, 0, 0],
                [0x5d, 0x36, 4, 0, 0, 0, 0, 0],
                [0x55, 0x04, 3, 0, 1, 0, 0, 0],
                [0x55, 0x05, 2, 0, 3, 0, 0, 0],
                [0xb7, 0, 0, 0, 1, 0, 0, 0],
                [0x95, 0, 0, 0, 0, 0, 0, 0],
                [0xb7, 0, 0, 0, 0, 0, 0, 0],
                [0x95, 0, 0, 0, 0, 0, 0, 0],
            ]
        );
    }
}
