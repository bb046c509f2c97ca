//! The recorded wire, replayed: what the original's masters sent to agents and drivers, ours sends too, message by
//! message and field by field.
//!
//! What is not compared: times; the order of resources in an offer; the number in an offer's id; challenges. The
//! original tells all agents when a framework ends, ours those that run something of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use access::cram_md5::Authenticatee;
use access::{Credentials, Principal};
use master::core::authentication::Security;
use serde_json::Value;

use super::recorded::{self, Line, Words};
use super::*;

/// Time between two looks at what is due.
const STEP: f64 = 0.05;

type Told = BTreeMap<String, Vec<(String, Value)>>;

/// A master in the place of a recorded one.
struct Replay {
    test: Test,
    port: u16,
    began: f64,
    /// Frameworks over HTTP, which the recording of messages shows only by what they cause.
    streams: BTreeMap<String, StreamId>,
    /// The last challenge to each address.
    challenges: BTreeMap<SocketAddr, Vec<u8>>,
    recorded: Told,
    recorded_offers: Vec<String>,
    recorded_words: Words,
    ours: Told,
    ours_offers: Vec<String>,
    ours_words: Words,
}

/// A message without what belongs to one run.
fn comparable(words: &mut Words, from: &str, name: &str, body: &[u8]) -> (String, Value) {
    let mut told = recorded::told(name, body);
    if name == internal::AuthenticationStepMessage::full_name() {
        // `<number.number@host>`, in base64: as long as its numbers.
        told["data"] = "challenge".into();
    }
    recorded::each_text(&mut told, &mut Vec::new(), &mut |path, text| {
        let is_offer = path.iter().any(|name| name == "offers")
            && path.ends_with(&["id".into(), "value".into()]);
        if is_offer && !path.iter().any(|name| name.ends_with("_id")) {
            *text = words.word("offer", text);
        }
    });
    (format!("{from} {name}"), told)
}

impl Replay {
    fn new(
        port: u16,
        began: f64,
        info: v1::MasterInfo,
        security: Security,
        registry: Registry,
    ) -> Self {
        let settings = Settings { security, ..Settings::default() };
        Self {
            test: Test::elected(settings, info, registry),
            port,
            began,
            streams: BTreeMap::new(),
            challenges: BTreeMap::new(),
            recorded: Told::new(),
            recorded_offers: Vec::new(),
            recorded_words: Words::default(),
            ours: Told::new(),
            ours_offers: Vec::new(),
            ours_words: Words::default(),
        }
    }

    /// Takes note of what was just sent.
    fn note(&mut self) {
        for effect in std::mem::take(&mut self.test.effects) {
            let Effect::Send { from, to, name, body } = effect else { continue };
            if name == internal::AuthenticationStepMessage::full_name() {
                let step = internal::AuthenticationStepMessage::decode(&body[..]).unwrap();
                self.challenges.insert(to.address, step.data);
            }
            if name == internal::ResourceOffersMessage::full_name() {
                let message = internal::ResourceOffersMessage::decode(&body[..]).unwrap();
                self.ours_offers.extend(message.offers.into_iter().map(|offer| offer.id.value));
            }
            let told = comparable(&mut self.ours_words, &from, &name, &body);
            self.ours.entry(to.to_string()).or_default().push(told);
        }
    }

    fn advance(&mut self, time: f64) {
        while self.test.now.mono.as_secs_f64() + STEP < time - self.began {
            self.test.after(STEP);
            self.note();
        }
        let left = time - self.began - self.test.now.mono.as_secs_f64();
        self.test.after(left.max(0.0));
        self.note();
    }

    /// A framework over HTTP subscribes.
    fn http(&mut self, info: v1::FrameworkInfo) {
        let stream = StreamId(uuid::Uuid::new_v4());
        let framework_info = info.clone();
        let subscribe = call::Subscribe { framework_info, ..Default::default() };
        self.test.master.subscribe(self.test.now, stream, subscribe);
        let known = self.test.master.frameworks.values();
        let new = known.filter(|own| own.stream() == Some(stream)).map(|own| own.id.clone()).next();
        self.streams.insert(new.unwrap(), stream);
        self.test.settle();
        self.note();
    }

    fn http_call(&mut self, framework: &str, kind: call::Type, call: Call) {
        let framework_id = Some(v1::FrameworkId { value: framework.to_owned() });
        let call = Call { framework_id, r#type: Some(kind as i32), ..call };
        let stream = self.streams[framework].0.to_string();
        self.test.master.call(self.test.now, None, Some(&stream), call).unwrap();
        self.test.settle();
        self.note();
    }

    /// What must have happened over HTTP for the recorded master to send this; false if ours need not send it.
    fn cause(&mut self, line: &Line) -> bool {
        if line.header.name == internal::RunTaskMessage::full_name() {
            let message = internal::RunTaskMessage::decode(&line.body[..]).unwrap();
            if message.pid() != Upid::none().to_string() {
                return true;
            }
            let id = message.framework.id.clone().unwrap().value;
            self.http(v1::FrameworkInfo { id: None, ..message.framework });
            let find = |offer: &&v1::Offer| offer.framework_id.value == id;
            let mut offers = self.test.master.offers.values().map(|offer| &offer.message);
            let offer = offers.find(find).unwrap().id.clone();
            drop(offers);
            let launch = v1::offer::operation::Launch { task_infos: vec![message.task] };
            let operation = v1::offer::Operation {
                r#type: Some(v1::offer::operation::Type::Launch as i32),
                launch: Some(launch),
                ..Default::default()
            };
            let accept =
                call::Accept { offer_ids: vec![offer], operations: vec![operation], filters: None };
            let call = Call { accept: Some(accept), ..Default::default() };
            self.http_call(&id, call::Type::Accept, call);
        } else if line.header.name == internal::StatusUpdateAcknowledgementMessage::full_name() {
            let message =
                internal::StatusUpdateAcknowledgementMessage::decode(&line.body[..]).unwrap();
            if self.streams.contains_key(&message.framework_id.value) {
                let acknowledge = call::Acknowledge {
                    agent_id: message.slave_id,
                    task_id: message.task_id,
                    uuid: message.uuid,
                };
                let call = Call { acknowledge: Some(acknowledge), ..Default::default() };
                self.http_call(&message.framework_id.value, call::Type::Acknowledge, call);
            }
        } else if line.header.name == internal::ShutdownFrameworkMessage::full_name() {
            let message = internal::ShutdownFrameworkMessage::decode(&line.body[..]).unwrap();
            let id = message.framework_id.value;
            if !self.test.master.frameworks.contains_key(&id)
                && !self.test.master.completed_frameworks.contains_key(&id)
            {
                let capability = v1::framework_info::capability::Type::MultiRole as i32;
                let capability = v1::framework_info::Capability { r#type: Some(capability) };
                let (roles, capabilities) = (vec!["ok".into()], vec![capability]);
                self.http(v1::FrameworkInfo { roles, capabilities, ..framework_info() });
            }
            if self.streams.contains_key(&id) {
                self.test.master.remove_framework(self.test.now, &id);
                self.test.settle();
                self.note();
            }
        }
        true
    }

    /// A recorded message to the master.
    fn hear(&mut self, line: &Line) {
        let from = &line.header.from;
        let mut body = line.body.clone();
        if line.header.name == internal::ReregisterSlaveMessage::full_name()
            && !self.test.master.agents.is_empty()
        {
            // It was killed before.
            self.test.master.peer_exited(self.test.now, from.address);
            self.test.settle();
            self.note();
        }
        if line.header.name == mesos::scheduler_v0::Call::full_name() {
            let mut call = mesos::scheduler_v0::Call::decode(&body[..]).unwrap();
            let accepted = call.accept.iter_mut().flat_map(|accept| &mut accept.offer_ids);
            let declined = call.decline.iter_mut().flat_map(|decline| &mut decline.offer_ids);
            for id in accepted.chain(declined) {
                let at = self.recorded_offers.iter().position(|own| *own == id.value).unwrap();
                // There are as many by now: both were waited for.
                id.value.clone_from(self.ours_offers.get(at).unwrap());
            }
            body = call.encode_to_vec();
        }
        if let (true, Some(challenge)) = (
            line.header.name == internal::AuthenticationStepMessage::full_name(),
            self.challenges.get(&from.address),
        ) {
            let (principal, secret) = if from.address.port() == 5051 {
                ("agent", "agentpw")
            } else {
                ("framework", "frameworkpw")
            };
            let own = Authenticatee::new(Principal(principal.to_owned()), secret.into());
            let step = internal::AuthenticationStepMessage { data: challenge.clone() };
            let reply = own.message(&line.header.name, &step.encode_to_vec()).unwrap().1;
            body = reply.unwrap().body;
        }
        self.test.master.message(self.test.now, &line.header, &body).unwrap();
        self.test.settle();
        self.note();
    }

    fn replay(mut self, lines: &[Line]) -> Self {
        let began = self.began;
        for line in lines.iter().filter(|line| line.time >= began) {
            let is_log = line.header.name.contains(".log.");
            if line.to == self.port && !is_log {
                self.advance(line.time);
                self.hear(line);
            } else if line.header.from.address.port() == self.port && !is_log {
                self.advance(line.time);
                if !self.cause(line) {
                    continue;
                }
                if line.header.name == internal::ResourceOffersMessage::full_name() {
                    let message = internal::ResourceOffersMessage::decode(&line.body[..]).unwrap();
                    let ids = message.offers.into_iter().map(|offer| offer.id.value);
                    self.recorded_offers.extend(ids);
                    // The recorded master may be slower than ours, ours may wait for its next round.
                    while self.ours_offers.len() < self.recorded_offers.len() {
                        self.test.after(STEP);
                        self.note();
                    }
                }
                let to = format!("{}@127.0.0.1:{}", line.header.to, line.to);
                let (from, name) = (&line.header.from.id, &line.header.name);
                let told = comparable(&mut self.recorded_words, from, name, &line.body);
                self.recorded.entry(to).or_default().push(told);
            }
        }
        self
    }

    fn compare(&self) {
        for peer in self.recorded.keys().chain(self.ours.keys()) {
            let of = |told: &Told| told.get(peer).cloned().unwrap_or_default();
            recorded::assert_same(peer, &of(&self.recorded), &of(&self.ours));
        }
    }
}

/// What a recorded master said of itself to the driver.
fn master_info(lines: &[Line], port: u16) -> v1::MasterInfo {
    let line = lines.iter().find(|line| {
        line.header.from.address.port() == port
            && line.header.name == internal::FrameworkRegisteredMessage::full_name()
    });
    internal::FrameworkRegisteredMessage::decode(&line.unwrap().body[..]).unwrap().master_info
}

#[test]
fn two_masters_in_turn_say_to_an_agent_and_a_driver_what_the_originals_said() {
    let Some(lines) = recorded::wire("ha.jsonl") else { return };
    let security = Security::default;
    let first = Replay::new(5050, 3.0, master_info(&lines, 5050), security(), Registry::default());
    let first = first.replay(&lines);
    first.compare();
    // Before it has read the registry the next one hears nothing.
    let registry = first.test.master.registry.clone();
    let mut second = Replay::new(5150, 17.4, master_info(&lines, 5150), security(), registry);
    let is_first_framework = |line: &&Line| {
        line.header.name == internal::UpdateFrameworkMessage::full_name() && line.time > 17.4
    };
    let told = internal::UpdateFrameworkMessage::decode(
        &lines.iter().find(is_first_framework).unwrap().body[..],
    );
    second.http(told.unwrap().framework_info.unwrap());
    second.replay(&lines).compare();
}

#[test]
fn a_master_that_authenticates_says_what_the_original_said() {
    let Some(lines) = recorded::wire("auth.jsonl") else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "agent agentpw\nframework frameworkpw").unwrap();
    let security = Security {
        credentials: Some(Arc::new(Credentials::read(file.path()).unwrap())),
        authenticate_frameworks: true,
        authenticate_agents: true,
        ..Security::default()
    };
    let info = master_info(&lines, 5050);
    Replay::new(5050, 0.0, info, security, Registry::default()).replay(&lines).compare();
}
