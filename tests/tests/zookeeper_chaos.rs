//! Five servers as processes, clients that note what each request came to, and faults: `kill -9`, SIGSTOP, partitions, full
//! disks. What the clients saw is then checked: writes linearizable, reads in order within a session, ephemeral znodes there exactly as
//! long as their sessions, nothing acknowledged lost, sequence numbers unique and growing, all servers alike in the end.
//!
//! `MESO_CHAOS_SECONDS` (20 if not set) says for how long, `MESO_CHAOS_SEED` with which choices: a failure names its seed.
//! Times are the machine's, so that a seed gives the same faults and wishes, not the same run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::linearizability::{Act, Operation, Outcome, Register, check};
use end_to_end::programs::has_original_zookeeper;
use end_to_end::zookeeper::Kind;
use end_to_end::zookeeper::ensemble::Ensemble;
use end_to_end::zookeeper::proxies::Fault;
use end_to_end::zookeeper::session::{Lost, Session, Ticket};
use end_to_end::{need, wait};
use nix::sys::signal::Signal;
use rand::prelude::*;
use rand::rngs::StdRng;

const CLIENTS: usize = 8;
const REGISTERS: usize = 6;
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);
const REPLY_LIMIT: Duration = Duration::from_secs(3);
/// How soon writes must be acknowledged again once nothing is broken.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// Between two attempts to reach a server.
const PAUSE: Duration = Duration::from_millis(10);
const NO_NODE: i32 = -101;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;

/// A sequential znode that was asked for.
#[derive(Debug, Clone)]
struct Numbered {
    token: u64,
    /// Its path; `None` when the reply was lost.
    path: Option<String>,
    called: u64,
    returned: u64,
}

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    registers: Vec<Vec<Operation>>,
    numbered: Vec<Numbered>,
    faults: Vec<String>,
    sessions: usize,
    expired: usize,
}

/// What all clients share.
struct World {
    ports: Vec<u16>,
    began: Instant,
    tokens: AtomicU64,
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl World {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a short test")
    }

    fn token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed) + 1
    }
}

fn register_path(register: usize) -> String {
    format!("/register-{register}")
}

fn value_of(data: &[u8]) -> u64 {
    std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("data that a client wrote")
}

/// One client: a session after the other, each moved from server to server as connections break.
struct Client {
    world: Arc<World>,
    id: usize,
    random: StdRng,
    session: Option<Session>,
    ticket: Option<Ticket>,
    /// The ephemeral znode of the session, once it is known to be there.
    ephemeral: Option<String>,
    /// The versions that the session has seen.
    versions: [i32; REGISTERS],
    seen: Seen,
}

impl Client {
    fn new(world: Arc<World>, id: usize, seed: u64) -> Self {
        let registers = vec![Vec::new(); REGISTERS];
        let random = StdRng::seed_from_u64(seed ^ ((id as u64 + 1) << 32));
        Self {
            world,
            id,
            random,
            session: None,
            ticket: None,
            ephemeral: None,
            versions: [-1; REGISTERS],
            seen: Seen { registers, ..Seen::default() },
        }
    }

    fn fault(&mut self, what: String) {
        let at = self.world.began.elapsed();
        self.seen.faults.push(format!("client {} at {at:.3?}: {what}", self.id));
    }

    fn run(mut self) -> Seen {
        while !self.world.stop.load(Ordering::Relaxed) {
            if self.session.is_none() && !self.connect() {
                thread::sleep(PAUSE);
                continue;
            }
            if let Err(lost) = self.act() {
                self.session = None;
                if lost == Lost::Expired {
                    self.session_ended("expired");
                }
            }
        }
        if let Some(session) = self.session.take() {
            // If it can't be closed it expires.
            let _ = session.close();
        }
        self.seen
    }

    fn connect(&mut self) -> bool {
        let port = *self.world.ports.choose(&mut self.random).expect("servers");
        match Session::connect(port, self.ticket.as_ref(), SESSION_TIMEOUT, REPLY_LIMIT) {
            Ok(session) => {
                self.seen.sessions += usize::from(self.ticket.is_none());
                self.ticket = Some(session.ticket());
                self.session = Some(session);
                true
            }
            Err(Lost::Expired) => {
                self.seen.expired += 1;
                self.session_ended("expired");
                false
            }
            Err(Lost::Connection(_)) => false,
        }
    }

    /// A session is over, and its ephemeral znode must be gone for whoever looks from now on.
    fn session_ended(&mut self, how: &str) {
        self.ticket = None;
        self.versions = [-1; REGISTERS];
        let Some(path) = self.ephemeral.take() else { return };
        let port = *self.world.ports.choose(&mut self.random).expect("servers");
        let Ok(mut other) = Session::connect(port, None, SESSION_TIMEOUT, REPLY_LIMIT) else {
            return;
        };
        let looked = fence(&mut other, self.id).and_then(|()| other.get(&path));
        if let Ok(Ok((_, stat))) = looked {
            self.fault(format!("{path} of {:x} outlives its session, which {how}", stat.owner));
        }
        let _ = other.close();
    }

    /// One request, or a few that belong together.
    fn act(&mut self) -> Result<(), Lost> {
        let register = self.random.random_range(0..REGISTERS);
        let result = match self.random.random_range(0..100) {
            0..40 => self.write(register, None),
            40..58 => self.write(register, Some(self.versions[register])),
            58..74 => self.read(register, true),
            74..84 => self.read(register, false),
            84..93 => self.number(),
            93..99 => self.look_at_ephemeral(),
            _ => self.close(),
        };
        if let Some(session) = &self.session {
            self.ticket = Some(session.ticket());
        }
        result
    }

    fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("connected before")
    }

    fn note(&mut self, register: usize, act: Act, outcome: Outcome, called: u64) {
        let returned = self.world.now();
        let operation = Operation { client: self.id, act, outcome, called, returned };
        self.seen.registers[register].push(operation);
    }

    /// Within a session what was seen once is not unseen.
    fn saw(&mut self, register: usize, version: i32, how: &str) {
        let before = self.versions[register];
        if version < before {
            self.fault(format!(
                "{how} of register {register} saw version {version} after {before}"
            ));
        }
        self.versions[register] = version;
    }

    fn write(&mut self, register: usize, expected: Option<i32>) -> Result<(), Lost> {
        let value = self.world.token();
        // −1 would be no condition.
        let expected = expected.filter(|version| *version >= 0);
        let act = expected.map_or(Act::Write(value), |expected| Act::Cas { expected, value });
        let called = self.world.now();
        let path = register_path(register);
        let answer =
            self.session().set(&path, value.to_string().as_bytes(), expected.unwrap_or(-1));
        match answer {
            Ok(Ok(stat)) => {
                self.note(register, act, Outcome::Changed { version: stat.version }, called);
                self.world.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.saw(register, stat.version, "a write");
            }
            Ok(Err(BAD_VERSION)) if expected.is_some() => {
                self.note(register, act, Outcome::Refused, called);
            }
            Ok(Err(code)) => self.fault(format!("{act:?} of register {register} failed: {code}")),
            Err(lost) => {
                self.note(register, act, Outcome::Unknown, called);
                return Err(lost);
            }
        }
        Ok(())
    }

    /// A read behind a write of the same session sees at least what was there when it was called. A read behind a `sync` does
    /// not always: a leader that is no longer one, and has not noticed yet, answers it (ZOOKEEPER-2136).
    fn read(&mut self, register: usize, fenced: bool) -> Result<(), Lost> {
        let (called, id) = (self.world.now(), self.id);
        if fenced {
            fence(self.session(), id)?;
        }
        match self.session().get(&register_path(register))? {
            Ok((data, stat)) => {
                let outcome = Outcome::Saw { version: stat.version, value: value_of(&data) };
                if fenced {
                    self.note(register, Act::Read, outcome, called);
                }
                self.saw(register, stat.version, "a read");
            }
            Err(code) => self.fault(format!("a read of register {register} failed: {code}")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Lost> {
        let (token, called) = (self.world.token(), self.world.now());
        let answer = self.session().create("/numbered/n-", token.to_string().as_bytes(), 2);
        let returned = self.world.now();
        let mut numbered = Numbered { token, path: None, called, returned };
        let result = match answer {
            Ok(Ok(path)) => {
                numbered.path = Some(path);
                self.world.acknowledged.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Ok(Err(code)) => {
                self.fault(format!("a sequential znode was refused: {code}"));
                Ok(())
            }
            Err(lost) => Err(lost),
        };
        self.seen.numbered.push(numbered);
        result
    }

    fn look_at_ephemeral(&mut self) -> Result<(), Lost> {
        let (id, own) = (self.session().ticket().id, self.id);
        let path = format!("/ephemeral/{id:x}");
        if self.ephemeral.is_none() {
            match self.session().create(&path, b"", 1)? {
                // It is there already when an earlier reply was lost.
                Ok(_) | Err(NODE_EXISTS) => self.ephemeral = Some(path),
                Err(code) => self.fault(format!("{path} was refused: {code}")),
            }
            return Ok(());
        }
        match self.session().get(&path)? {
            Ok((_, stat)) if stat.owner == id => {}
            Ok((_, stat)) => self.fault(format!("{path} belongs to {:x}", stat.owner)),
            Err(NO_NODE) => {
                // A session that has just ended may still be answered a read.
                fence(self.session(), own)?;
                self.fault(format!("{path} is gone, and its session lives"));
                self.ephemeral = None;
            }
            Err(code) => self.fault(format!("{path} can't be read: {code}")),
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Lost> {
        let Some(session) = self.session.take() else { return Ok(()) };
        session.close()?;
        self.session_ended("was closed");
        Ok(())
    }
}

/// A write of no meaning: what the session reads next is at least as new as everything that was acknowledged before.
fn fence(session: &mut Session, client: usize) -> Result<(), Lost> {
    match session.set(&format!("/fence-{client}"), b"", -1)? {
        Ok(_) => Ok(()),
        Err(code) => Err(Lost::Connection(format!("the fence was refused: {code}"))),
    }
}

/// Breaks things until `deadline`, each for a while, and sees to it that work goes on in between.
fn break_things(
    ensemble: &mut Ensemble,
    world: &World,
    seed: u64,
    deadline: Instant,
) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let count = ensemble.clients.len();
    let mut told = Vec::new();
    while Instant::now() < deadline {
        ensemble.purge();
        let began = world.began.elapsed();
        let leader = (0..count).find(|index| ensemble.mode(*index).as_deref() == Ok("leader"));
        let any = random.random_range(0..count);
        let victim = leader.filter(|_| random.random_bool(0.5)).unwrap_or(any);
        let hold = Duration::from_millis(random.random_range(100..2500));
        let what = match random.random_range(0..12) {
            0..3 => {
                ensemble.kill(victim);
                thread::sleep(hold);
                format!("killed {victim}")
            }
            3 => {
                (0..count).for_each(|index| ensemble.kill(index));
                "killed all".to_owned()
            }
            4 => {
                // With another one killed while it sleeps, and the rest barely a majority.
                ensemble.signal(victim, Signal::SIGSTOP);
                ensemble.kill((victim + 1) % count);
                thread::sleep(hold);
                ensemble.signal(victim, Signal::SIGCONT);
                format!("stopped {victim}, killed {}", (victim + 1) % count)
            }
            5..7 => {
                ensemble.signal(victim, Signal::SIGSTOP);
                thread::sleep(hold);
                ensemble.signal(victim, Signal::SIGCONT);
                format!("stopped {victim}")
            }
            10.. if ensemble.disk(victim).is_some() => {
                let disk = ensemble.disk(victim).expect("just seen");
                disk.fill();
                // Until it needs more than what is set aside for the log, and for a while.
                thread::sleep(hold * 2);
                disk.clear();
                format!("filled the disk of {victim}")
            }
            _ => {
                let fault = if random.random_bool(0.5) { Fault::Stall } else { Fault::Cut };
                let mut members: Vec<usize> = (0..count).filter(|index| *index != victim).collect();
                members.shuffle(&mut random);
                let minority = count.div_ceil(2) - 1;
                let mut apart =
                    members.split_off(members.len() + 1 - random.random_range(1..=minority));
                apart.push(victim);
                ensemble.proxies.partition(&apart, &members, fault);
                // Longer than it takes to notice.
                thread::sleep(hold * 2);
                ensemble.proxies.heal();
                format!("{fault:?} between {apart:?} and {members:?}")
            }
        };
        ensemble.start_missing();
        told.push(format!("{began:.3?}–{:.3?} {what} (leader {leader:?})", world.began.elapsed()));
        // Now and then the next fault meets a recovery.
        if random.random_bool(0.7) {
            let before = world.acknowledged.load(Ordering::Relaxed);
            wait::until("writes after a fault", RECOVERY_LIMIT, || {
                ensemble.purge();
                let now = world.acknowledged.load(Ordering::Relaxed);
                if now > before + 50 { Ok(()) } else { Err(format!("{told:#?}")) }
            });
        }
    }
    told
}

/// What a server holds at last: registers, sequential znodes with their data, and ephemeral ones.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    registers: Vec<(u64, i32, i64)>,
    numbered: BTreeMap<String, u64>,
}

fn content(session: &mut Session) -> Result<Content, Lost> {
    fence(session, CLIENTS)?;
    let missing = |code: i32| Lost::Connection(format!("refused: {code}"));
    let mut registers = Vec::new();
    for register in 0..REGISTERS {
        let (data, stat) = session.get(&register_path(register))?.map_err(missing)?;
        registers.push((value_of(&data), stat.version, stat.mzxid));
    }
    let mut numbered = BTreeMap::new();
    for name in session.children("/numbered")?.map_err(missing)? {
        let path = format!("/numbered/{name}");
        let (data, _) = session.get(&path)?.map_err(missing)?;
        numbered.insert(path, value_of(&data));
    }
    Ok(Content { registers, numbered })
}

fn check_numbered(all: &[Numbered], last: &Content, faults: &mut Vec<String>) {
    let number = |path: &str| path[path.len() - 10..].parse::<i64>().expect("a sequence number");
    let tokens: BTreeSet<u64> = last.numbered.values().copied().collect();
    if tokens.len() != last.numbered.len() {
        faults.push("a create happened twice".to_owned());
    }
    let mut acknowledged: Vec<(&Numbered, &String)> = Vec::new();
    for one in all {
        let Some(path) = &one.path else { continue };
        if last.numbered.get(path) != Some(&one.token) {
            faults.push(format!(
                "{one:?} was acknowledged and is lost: {:?}",
                last.numbered.get(path)
            ));
        }
        acknowledged.push((one, path));
    }
    // Whoever was called after the return of another has the larger number.
    acknowledged.sort_by_key(|(one, _)| one.called);
    let mut returns: Vec<(u64, i64)> =
        acknowledged.iter().map(|(one, path)| (one.returned, number(path))).collect();
    returns.sort_unstable();
    let (mut returned, mut largest) = (returns.into_iter().peekable(), -1);
    for (one, path) in acknowledged {
        while let Some((_, earlier)) = returned.next_if(|(at, _)| *at < one.called) {
            largest = largest.max(earlier);
        }
        if number(path) <= largest {
            faults.push(format!("{one:?} came after number {largest} was known"));
        }
    }
}

fn check_registers(histories: &[Vec<Operation>], faults: &mut Vec<String>) {
    for (register, history) in histories.iter().enumerate() {
        if let Err(reason) = check(Register { version: 0, value: 0 }, history) {
            faults.push(format!("register {register} is not linearizable: {reason}"));
        }
    }
}

fn prepare(port: u16) {
    let mut session =
        Session::connect(port, None, SESSION_TIMEOUT, REPLY_LIMIT).expect("a session");
    let mut create = |path: &str, data: &[u8]| {
        session.create(path, data, 0).expect("a reply").expect("a znode");
    };
    create("/numbered", b"");
    create("/ephemeral", b"");
    (0..=CLIENTS).for_each(|client| create(&format!("/fence-{client}"), b""));
    (0..REGISTERS).for_each(|register| create(&register_path(register), b"0"));
    session.close().expect("a reply");
}

fn chaos(kinds: &[Kind]) {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = variable("MESO_CHAOS_SEED").unwrap_or_else(rand::random);
    let duration = variable("MESO_CHAOS_SECONDS").unwrap_or(20);
    let again = format!("again with MESO_CHAOS_SEED={seed} MESO_CHAOS_SECONDS={duration}");
    tell(&again);
    let mut ensemble = Ensemble::start(kinds, "snapCount=500\npreAllocSize=16\n");
    if ensemble.disk(0).is_none() {
        tell("no disk is filled: only root mounts small ones");
    }
    prepare(ensemble.clients[0]);
    let world = Arc::new(World {
        ports: ensemble.clients.clone(),
        began: Instant::now(),
        tokens: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|id| {
            let client = Client::new(Arc::clone(&world), id, seed);
            thread::spawn(move || client.run())
        })
        .collect();
    let told = Mutex::new(Vec::new());
    let deadline = world.began + Duration::from_secs(duration);
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        *told.lock().expect("one thread") = break_things(&mut ensemble, &world, seed, deadline);
        ensemble.start_missing();
        ensemble.wait_for_all();
    }));
    world.stop.store(true, Ordering::Relaxed);
    let mut notes: Vec<Seen> =
        clients.into_iter().map(|client| client.join().expect("a client")).collect();
    let mut faults: Vec<String> = notes.iter_mut().flat_map(|seen| seen.faults.drain(..)).collect();
    faults.extend(ensemble.ended.iter().map(|end| format!("ended by itself: {end}")));
    if let Err(panic) = broken {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        faults.push(format!("the ensemble did not recover: {text}"));
    } else {
        look_at_the_end(&ensemble, &world, &mut notes, &mut faults);
    }
    let operations: usize = notes.iter().flat_map(|seen| &seen.registers).map(Vec::len).sum();
    let summary = format!(
        "{operations} operations on registers, {} acknowledged writes, {} sequential znodes, {} sessions of which {} expired, {} faults",
        world.acknowledged.load(Ordering::Relaxed),
        notes.iter().map(|seen| seen.numbered.len()).sum::<usize>(),
        notes.iter().map(|seen| seen.sessions).sum::<usize>(),
        notes.iter().map(|seen| seen.expired).sum::<usize>(),
        told.lock().expect("one thread").len(),
    );
    tell(&summary);
    if !faults.is_empty() {
        let kept = keep(ensemble.directory.path());
        let shown: Vec<&String> = faults.iter().take(20).collect();
        panic!(
            "{again}\n{summary}\nlogs and data in {kept}\n{:#?}\n{shown:#?}",
            told.lock().expect("one thread")
        );
    }
    assert!(operations > 100, "too little happened to say anything: {summary}");
}

fn look_at_the_end(
    ensemble: &Ensemble,
    world: &World,
    seen: &mut [Seen],
    faults: &mut Vec<String>,
) {
    let mut contents = Vec::new();
    for (index, port) in world.ports.iter().enumerate() {
        let (content, called) = wait::until("an answer at last", RECOVERY_LIMIT, || {
            let called = world.now();
            let mut session = Session::connect(*port, None, SESSION_TIMEOUT, REPLY_LIMIT)
                .map_err(|lost| format!("{lost:?}"))?;
            let content = content(&mut session).map_err(|lost| format!("{lost:?}"))?;
            let _ = session.close();
            Ok((content, called))
        });
        for (register, (value, version, _)) in content.registers.iter().enumerate() {
            let outcome = Outcome::Saw { version: *version, value: *value };
            let returned = world.now();
            let read = Operation { client: CLIENTS, act: Act::Read, outcome, called, returned };
            seen[0].registers[register].push(read);
        }
        if let Some(first) = contents.first()
            && *first != content
        {
            faults.push(format!("server {index} differs from server 0:\n{content:?}\n{first:?}"));
        }
        contents.push(content);
    }
    let numbered: Vec<Numbered> = seen.iter().flat_map(|seen| seen.numbered.clone()).collect();
    check_numbered(&numbered, &contents[0], faults);
    let histories: Vec<Vec<Operation>> = (0..REGISTERS)
        .map(|register| seen.iter().flat_map(|seen| seen.registers[register].clone()).collect())
        .collect();
    check_registers(&histories, faults);
    wait::until("the last ephemeral znodes to vanish", RECOVERY_LIMIT, || {
        let mut session = Session::connect(ensemble.clients[0], None, SESSION_TIMEOUT, REPLY_LIMIT)
            .map_err(|lost| format!("{lost:?}"))?;
        let left = session.children("/ephemeral").map_err(|lost| format!("{lost:?}"))?;
        let _ = session.close();
        match left {
            Ok(names) if names.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// Moves what a failed run leaves out of the way of its removal.
fn keep(directory: &Path) -> String {
    let kept = std::env::temp_dir().join(format!("meso-chaos-{}", std::process::id()));
    let copied = std::process::Command::new("cp").arg("-r").arg(directory).arg(&kept).status();
    copied.map_or_else(|error| error.to_string(), |_| kept.display().to_string())
}

#[expect(clippy::print_stderr, reason = "the seed is for the person who runs the test")]
fn tell(text: &str) {
    eprintln!("{text}");
}

#[test]
fn five_servers_keep_their_promises_whatever_breaks() {
    chaos(&[Kind::Ours; 5]);
}

#[test]
fn servers_of_both_kinds_keep_their_promises_together() {
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    chaos(&[Kind::Ours, Kind::Original, Kind::Ours]);
}
