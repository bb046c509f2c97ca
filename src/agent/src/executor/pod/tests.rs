use super::*;

fn task(id: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId { value: id.to_owned() },
        ..Default::default()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn exited(status: i32) -> Ended {
    Ended::Known(Box::new(v1::agent::response::WaitContainer {
        exit_status: Some(status),
        ..Default::default()
    }))
}

/// A pod whose tasks run, in containers of their names.
fn running(ids: &[&str]) -> Pod {
    let mut pod = Pod::default();
    let mut names = ids.iter().map(|id| (*id).to_owned());
    let group = ids.iter().map(|id| task(id)).collect();
    pod.launch_group(group, || names.next().unwrap_or_default());
    for id in ids {
        pod.launched(seconds(0), id, Ok(()));
    }
    pod.take_actions();
    pod
}

/// What is to be done, in short.
fn shown(pod: &mut Pod) -> Vec<String> {
    pod.take_actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::Update(status) => {
                let state = status.state().as_str_name().trim_start_matches("TASK_");
                let message = status.message.unwrap_or_default();
                Some(format!("{} {state} {message}", status.task_id.value).trim().to_owned())
            }
            Action::Launch(container, _) => Some(format!("launch {container}")),
            Action::Wait(container, _) => Some(format!("wait {container}")),
            Action::Signal(container, signal) => Some(format!("signal {container} {signal}")),
            Action::Check(container, _) => Some(format!("check {container}")),
            Action::StopChecks(_) => None,
            Action::Done => Some("done".to_owned()),
        })
        .collect()
}

#[test]
fn tasks_that_finish_leave_the_others_alone() {
    let mut pod = running(&["a", "b"]);
    pod.ended(seconds(1), "a", exited(0));
    assert_eq!(shown(&mut pod), ["a FINISHED Command exited with status 0"]);
    pod.ended(seconds(2), "b", exited(0));
    assert_eq!(shown(&mut pod), ["b FINISHED Command exited with status 0", "done"]);
}

#[test]
fn a_task_that_fails_takes_its_group_with_it_and_no_other() {
    let mut pod = running(&["a", "b"]);
    pod.launch_group(vec![task("c")], || "c".to_owned());
    pod.launched(seconds(0), "c", Ok(()));
    pod.take_actions();
    pod.set_knows_killing(true);
    pod.ended(seconds(1), "a", exited(7 << 8));
    let expected = ["a FAILED Command exited with status 7", "b KILLING", "signal b 15"];
    assert_eq!(shown(&mut pod), expected);
    assert_eq!(pod.due(), Some(seconds(4)), "three seconds of grace");
    pod.tick(seconds(4));
    assert_eq!(shown(&mut pod), ["signal b 9"]);
    pod.ended(seconds(5), "b", exited(9));
    assert_eq!(shown(&mut pod), ["b KILLED Command terminated with signal Killed"]);
    pod.ended(seconds(6), "c", exited(0));
    assert_eq!(shown(&mut pod), ["c FINISHED Command exited with status 0", "done"]);
}

#[test]
fn a_group_whose_task_fails_while_another_starts_is_ended_as_well() {
    let mut pod = Pod::default();
    let mut names = ["a", "b"].iter();
    pod.launch_group(vec![task("a"), task("b")], || (*names.next().unwrap()).to_owned());
    assert_eq!(shown(&mut pod), ["a STARTING", "launch a", "b STARTING", "launch b"]);
    pod.launched(seconds(0), "a", Err("no such user".to_owned()));
    assert_eq!(shown(&mut pod), ["wait a"]);
    pod.ended(seconds(0), "a", Ended::Unknown);
    assert_eq!(shown(&mut pod), ["a FAILED no such user"]);
    pod.launched(seconds(1), "b", Ok(()));
    assert_eq!(shown(&mut pod), ["b RUNNING", "signal b 15", "wait b"]);
    pod.ended(seconds(1), "b", exited(15));
    assert_eq!(shown(&mut pod), ["b KILLED Command terminated with signal Terminated", "done"]);
}

#[test]
fn kill_policies_and_completion_times_are_kept() {
    let mut slow = task("a");
    slow.kill_policy = Some(v1::KillPolicy {
        grace_period: Some(v1::DurationInfo { nanoseconds: 10_000_000_000 }),
    });
    slow.max_completion_time = Some(v1::DurationInfo { nanoseconds: 5_000_000_000 });
    let mut pod = Pod::default();
    pod.launch_group(vec![slow], || "a".to_owned());
    pod.launched(seconds(1), "a", Ok(()));
    pod.take_actions();
    pod.tick(seconds(6));
    assert_eq!(shown(&mut pod), ["signal a 15"]);
    assert_eq!(pod.due(), Some(seconds(6)), "no grace");
    pod.tick(seconds(6));
    assert_eq!(shown(&mut pod), ["signal a 9"]);
    pod.ended(seconds(7), "a", exited(15));
    let actions = pod.take_actions();
    let status = actions.iter().find_map(|action| match action {
        Action::Update(status) => Some(status),
        _ => None,
    });
    let status = status.unwrap();
    assert_eq!(status.reason(), Reason::MaxCompletionTimeReached);
    assert_eq!(status.state(), TaskState::TaskFailed);
}

fn patient(id: &str, grace: u64) -> v1::TaskInfo {
    let grace_period = Some(v1::DurationInfo { nanoseconds: grace as i64 * 1_000_000_000 });
    v1::TaskInfo { kill_policy: Some(v1::KillPolicy { grace_period }), ..task(id) }
}

#[test]
fn who_kills_a_task_decides_how_long_it_may_take() {
    let policy = |grace| patient("", grace).kill_policy;
    let pod = |is_command: bool| {
        let mut pod = if is_command { Pod::of_command(seconds(5)) } else { Pod::default() };
        let group = if is_command { vec![] } else { vec![task("b")] };
        let mut names = ["a", "b"].iter();
        let group = [vec![patient("a", 30)], group].concat();
        pod.launch_group(group, || (*names.next().unwrap()).to_owned());
        pod.launched(seconds(0), "a", Ok(()));
        pod.launched(seconds(0), "b", Ok(()));
        pod
    };
    let mut own = pod(false);
    own.kill_task(seconds(1), "a", None);
    assert_eq!(own.due(), Some(seconds(31)), "its own policy");
    own.kill_task(seconds(1), "a", policy(5).as_ref());
    assert_eq!(own.due(), Some(seconds(31)), "the first kill counts");
    let mut own = pod(false);
    own.kill_task(seconds(1), "a", policy(5).as_ref());
    assert_eq!(own.due(), Some(seconds(6)), "the call's");
    let mut own = pod(false);
    own.ended(seconds(1), "b", exited(256));
    assert_eq!(own.due(), Some(seconds(4)), "a group's");
    let mut own = pod(false);
    own.shut_down(seconds(1));
    assert_eq!(own.due(), Some(seconds(4)), "an executor's");

    let mut own = pod(true);
    own.kill_task(seconds(1), "a", policy(20).as_ref());
    own.kill_task(seconds(2), "a", policy(25).as_ref());
    assert_eq!(own.due(), Some(seconds(21)), "not longer");
    own.kill_task(seconds(3), "a", policy(5).as_ref());
    assert_eq!(own.due(), Some(seconds(6)), "shorter, from the first on");
    own.shut_down(seconds(3));
    assert_eq!(own.due(), Some(seconds(4)), "what the agent leaves");
    let mut own = pod(true);
    own.shut_down(seconds(1));
    assert_eq!(own.due(), Some(seconds(4)));
}

#[test]
fn a_task_that_is_killed_while_it_starts_runs_first() {
    let mut pod = Pod::default();
    pod.set_knows_killing(true);
    pod.launch_group(vec![patient("a", 30)], || "a".to_owned());
    pod.take_actions();
    pod.kill_task(seconds(1), "a", None);
    assert_eq!(shown(&mut pod), [""; 0]);
    pod.launched(seconds(2), "a", Ok(()));
    assert_eq!(shown(&mut pod), ["a RUNNING", "a KILLING", "signal a 15", "wait a"]);
    assert_eq!(pod.due(), Some(seconds(32)));
}

#[test]
fn what_checks_found_is_told_once_and_that_a_task_was_ill_by_all_last_words() {
    let statuses = |pod: &mut Pod| -> Vec<v1::TaskStatus> {
        let actions = pod.take_actions().into_iter();
        actions
            .filter_map(|action| match action {
                Action::Update(status) => Some(*status),
                _ => None,
            })
            .collect()
    };
    let mut checked = task("a");
    checked.check = Some(v1::CheckInfo {
        r#type: Some(v1::check_info::Type::Tcp as i32),
        ..Default::default()
    });
    let none = super::super::health::unchecked(&checked);
    let mut pod = Pod::default();
    pod.set_knows_killing(true);
    let mut names = ["a", "b"].iter();
    let group = vec![checked, task("b")];
    pod.launch_group(group, || (*names.next().unwrap()).to_owned());
    for id in ["a", "b"] {
        pod.launched(seconds(0), id, Ok(()));
    }
    assert_eq!(statuses(&mut pod)[0].check_status, none);
    let tcp = v1::check_status_info::Tcp { succeeded: Some(true) };
    let found = v1::CheckStatusInfo { tcp: Some(tcp), ..none.unwrap() };
    pod.checked("a", found);
    pod.health(seconds(1), "a", true, false);
    pod.health(seconds(2), "a", false, true);
    let told = statuses(&mut pod);
    let of = |told: &[v1::TaskStatus]| -> Vec<_> {
        told.iter().map(|status| (status.state(), status.healthy, status.check_status)).collect()
    };
    let running = TaskState::TaskRunning;
    assert_eq!(
        of(&told),
        [
            (running, None, Some(found)),
            (running, Some(true), Some(found)),
            (running, Some(false), Some(found)),
            (TaskState::TaskKilling, None, none),
        ]
    );
    pod.ended(seconds(3), "a", exited(15));
    pod.ended(seconds(3), "b", exited(15));
    let told = statuses(&mut pod);
    assert_eq!(
        of(&told),
        [
            (TaskState::TaskKilled, Some(false), none),
            (TaskState::TaskKilling, None, None),
            (TaskState::TaskKilled, Some(false), None),
        ]
    );
}

#[test]
fn an_unhealthy_task_is_killed_and_says_so() {
    let mut pod = running(&["a"]);
    pod.health(seconds(1), "a", true, false);
    assert_eq!(shown(&mut pod), ["a RUNNING"]);
    pod.health(seconds(2), "a", false, true);
    assert_eq!(shown(&mut pod), ["a RUNNING", "signal a 15"]);
    pod.ended(seconds(3), "a", exited(15));
    let is_unhealthy =
        |action: &Action| matches!(action, Action::Update(status) if status.healthy == Some(false));
    assert!(pod.take_actions().iter().any(is_unhealthy));
}

#[test]
fn a_shutdown_kills_all_and_starts_nothing() {
    let mut pod = running(&["a", "b"]);
    pod.shut_down(seconds(1));
    assert_eq!(shown(&mut pod), ["signal a 15", "signal b 15"]);
    pod.launch_group(vec![task("c")], || "c".to_owned());
    assert_eq!(shown(&mut pod), [""; 0]);
    pod.ended(seconds(2), "a", exited(15));
    pod.ended(seconds(2), "b", Ended::Unknown);
    let expected = ["a KILLED Command terminated with signal Terminated", "b KILLED", "done"];
    assert_eq!(shown(&mut pod), expected);
}
