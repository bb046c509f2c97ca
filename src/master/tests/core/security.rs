//! Who may come in and what they may do: CRAM-MD5 and ACLs.

use std::sync::Arc;

use access::cram_md5::Authenticatee;
use access::{Acls, Credentials, Principal};
use master::core::authentication::Security;

use super::*;

fn credentials(text: &str) -> Option<Arc<Credentials>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Some(Arc::new(Credentials::read(file.path()).unwrap()))
}

fn secured(acls: &str) -> Test {
    let security = Security {
        credentials: credentials("agent agentpw\nframework frameworkpw"),
        acls: Arc::new(Acls::parse(acls).unwrap()),
        authenticate_frameworks: true,
        authenticate_agents: true,
        ..Security::default()
    };
    Test::with(Settings { security, ..Settings::default() }, Registry::default())
}

/// Authenticates a process with a secret, as far as the master lets it; the last message it got.
fn authenticate(test: &mut Test, subject: &Upid, principal: &str, secret: &str) -> String {
    let own = Authenticatee::new(Principal(principal.to_owned()), secret.into());
    let peer = Upid::new(Authenticatee::PROCESS, subject.address);
    let mut to_master = Some(own.first(subject));
    let mut session = "master".to_owned();
    let mut last = String::new();
    while let Some(reply) = to_master.take() {
        let header = Header { from: peer.clone(), to: session.clone(), name: reply.name };
        test.master.message(test.now, &header, &reply.body).unwrap();
        test.settle();
        for effect in std::mem::take(&mut test.effects) {
            if let Effect::Send { from, to, name, body } = effect
                && to == peer
            {
                (session, last) = (from, name.clone());
                to_master = own.message(&name, &body).unwrap().1;
            }
        }
    }
    last.rsplit('.').next().unwrap_or_default().to_owned()
}

#[test]
fn only_an_agent_that_authenticated_is_registered() {
    let mut test = secured("{}");
    test.register();
    assert!(test.master.agents.is_empty() && test.effects.is_empty(), "not answered");
    let last = authenticate(&mut test, &agent_pid(), "agent", "wrong");
    assert_eq!(last, "AuthenticationFailedMessage");
    test.register();
    assert!(test.master.agents.is_empty());
    let last = authenticate(&mut test, &agent_pid(), "agent", "agentpw");
    assert_eq!(last, "AuthenticationCompletedMessage");
    test.register();
    assert_eq!(test.master.agents.len(), 1);
}

#[test]
fn nobody_authenticates_for_another() {
    let mut test = secured("{}");
    let own = Authenticatee::new(Principal("framework".to_owned()), "frameworkpw".into());
    let first = own.first(&agent_pid());
    let from = upid("crammd5-authenticatee(1)@10.0.0.66:5051");
    test.named(
        &from,
        "master",
        first.name,
        &internal::AuthenticateMessage { pid: agent_pid().to_string() },
    );
    assert!(test.effects.is_empty());
}

#[test]
fn who_was_at_an_address_must_authenticate_anew() {
    let mut test = secured("{}");
    authenticate(&mut test, &agent_pid(), "agent", "agentpw");
    test.master.peer_exited(test.now, agent_pid().address);
    test.register();
    assert!(test.master.agents.is_empty());
}

#[test]
fn an_agent_needs_the_right_to_register() {
    let mut test = secured(
        r#"{"permissive": false,
            "register_agents": [{"principals": {"values": ["agent"]}, "agents": {"type": "ANY"}}]}"#,
    );
    authenticate(&mut test, &agent_pid(), "framework", "frameworkpw");
    test.register();
    assert!(test.master.agents.is_empty());
    authenticate(&mut test, &agent_pid(), "agent", "agentpw");
    test.register();
    assert_eq!(test.master.agents.len(), 1);
}

#[test]
fn a_driver_hears_why_it_is_refused() {
    let mut test = secured("{}");
    let driver = upid("scheduler-1@10.0.0.9:4000");
    drivers::driver_subscribe(&mut test, &driver, None, false);
    let refused = test.sent::<internal::FrameworkErrorMessage>(&driver);
    assert_eq!(refused[0].message, "Framework at scheduler-1@10.0.0.9:4000 is not authenticated");
    authenticate(&mut test, &driver, "framework", "frameworkpw");
    drivers::driver_subscribe(&mut test, &driver, None, false);
    assert_eq!(test.sent::<internal::FrameworkRegisteredMessage>(&driver).len(), 1);
}

#[test]
fn roles_and_users_are_authorized() {
    let mut test = secured(
        r#"{"permissive": false,
            "register_agents": [{"principals": {"type": "ANY"}, "agents": {"type": "ANY"}}],
            "register_frameworks": [{"principals": {"values": ["p"]}, "roles": {"values": ["*"]}}],
            "run_tasks": [{"principals": {"values": ["p"]}, "users": {"values": ["root"]}}]}"#,
    );
    authenticate(&mut test, &agent_pid(), "agent", "agentpw");
    test.register();
    let stream = StreamId(uuid::Uuid::from_u128(1));
    let subscribe = |info| call::Subscribe { framework_info: info, ..Default::default() };
    test.master.subscribe(test.now, stream, subscribe(framework_info()));
    test.settle();
    let refused = test.events(event::Type::Error);
    assert_eq!(
        refused[0].error.as_ref().unwrap().message,
        "Not authorized to register framework  with roles { * }"
    );
    let info = v1::FrameworkInfo { principal: Some("p".to_owned()), ..framework_info() };
    test.master.subscribe(test.now, stream, subscribe(info));
    test.settle();
    assert_eq!(test.events(event::Type::Subscribed).len(), 1);
    let launch = v1::offer::operation::Launch { task_infos: vec![task("t1")] };
    let accept = call::Accept {
        offer_ids: vec![test.offer().id],
        operations: vec![v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch as i32),
            launch: Some(launch),
            ..Default::default()
        }],
        filters: None,
    };
    test.call(
        stream,
        Call {
            r#type: Some(call::Type::Accept as i32),
            framework_id: Some(v1::FrameworkId { value: "M-0000".to_owned() }),
            accept: Some(accept),
            ..Default::default()
        },
    )
    .unwrap();
    let updates = test.events(event::Type::Update);
    let status = &updates[0].update.as_ref().unwrap().status;
    assert_eq!(status.reason(), v1::task_status::Reason::TaskUnauthorized);
    assert_eq!(
        status.message(),
        "Principal 'p' no authorized to launch task t1 of framework M-0000 under user 'nobody'"
    );
    assert!(test.sent::<internal::RunTaskMessage>(&agent_pid()).is_empty());
}
