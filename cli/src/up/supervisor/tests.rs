//! Children that behave, that fail, that say nothing and that do not stop: shell scripts stand in for them.

use std::path::Path;

use super::*;

/// Longer than any test waits, and bounded all the same.
const PATIENCE: Duration = Duration::from_secs(60);
const WELL_BEHAVED: &str = "echo ready; exec sleep 600";
const STUBBORN: &str = "trap '' TERM; echo ready; exec sleep 600";

fn events() -> Events {
    Events::listen(&[]).unwrap()
}

/// A supervisor whose children are shell scripts, one for each role.
fn supervisor<'e>(events: &'e Events, scripts: &[(Role, &str)]) -> Supervisor<'e> {
    let launch = Launch {
        program: "/bin/sh".into(),
        flags: Vec::new(),
        hidden_variables: Vec::new(),
        messages: Messages::Kept(Default::default()),
    };
    let mut supervisor = Supervisor::new(events, launch);
    for (role, script) in scripts {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]);
        supervisor.spawn_as(*role, shell).unwrap();
    }
    supervisor
}

fn pids(supervisor: &Supervisor<'_>) -> Vec<u32> {
    supervisor.running().map(|(_, pid)| pid).collect()
}

/// Neither a process nor a zombie.
fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn what_is_ready_runs_until_it_is_stopped() {
    let events = events();
    let both = [(Role::Server(0), WELL_BEHAVED), (Role::Snapshotter(0), WELL_BEHAVED)];
    let mut supervisor = supervisor(&events, &both);
    supervisor.wait_ready(PATIENCE).unwrap();
    let pids = pids(&supervisor);
    assert_eq!(pids.len(), 2);
    assert_eq!(supervisor.ready_line(Role::Server(0)), Some("ready\n"));
    supervisor.stop();
    assert!(supervisor.killed().is_empty());
    assert_eq!(supervisor.running().count(), 0);
    assert!(pids.into_iter().all(is_gone));
}

#[test]
fn a_child_that_fails_to_start_gives_its_code() {
    let events = events();
    let both = [(Role::Server(0), WELL_BEHAVED), (Role::Server(1), "echo no room >&2; exit 73")];
    let mut supervisor = supervisor(&events, &both);
    let error = supervisor.wait_ready(PATIENCE).unwrap_err();
    assert_eq!(error.exit_code_of_child(), Some(73));
    let Messages::Kept(messages) = &supervisor.launch.messages else { unreachable!("as made above") };
    assert_eq!(*messages.lock().unwrap(), ["[server 1] no room"]);
}

#[test]
fn a_child_that_says_nothing_is_late() {
    let events = events();
    let mut supervisor = supervisor(&events, &[(Role::Snapshotter(4), "exec sleep 600")]);
    let error = supervisor.wait_ready(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, LaunchError::Late { role: Role::Snapshotter(4), .. }), "{error:?}");
}

#[test]
fn a_death_is_told_with_its_signal_and_the_others_run_on() {
    let events = events();
    let both = [(Role::Server(0), WELL_BEHAVED), (Role::Server(1), WELL_BEHAVED)];
    let mut supervisor = supervisor(&events, &both);
    supervisor.wait_ready(PATIENCE).unwrap();
    supervisor.children[1].0.signal(Signal::KILL);
    let Change::Died(death) = supervisor.next() else { panic!("nobody asked to stop") };
    assert_eq!(death.role, Role::Server(1));
    assert!(death.to_string().ends_with("was killed by SIGKILL (9)"), "{death}");
    assert_eq!(supervisor.running().map(|(role, _)| role).collect::<Vec<_>>(), [Role::Server(0)]);
}

#[test]
fn whoever_ignores_the_request_is_killed_at_the_second_one() {
    let events = events();
    let mut supervisor = supervisor(&events, &[(Role::Server(0), STUBBORN)]);
    supervisor.wait_ready(PATIENCE).unwrap();
    let pids = pids(&supervisor);
    events.sender().send(Event::Asked { signal: 15 }).unwrap();
    supervisor.stop();
    assert_eq!(supervisor.killed(), [(Role::Server(0), pids[0])], "it is told who had to be killed");
    assert!(pids.into_iter().all(is_gone));
}

#[test]
fn dropping_it_leaves_no_process() {
    let events = events();
    let mut supervisor = supervisor(&events, &[(Role::Server(0), STUBBORN)]);
    supervisor.wait_ready(PATIENCE).unwrap();
    let pids = pids(&supervisor);
    drop(supervisor);
    assert!(pids.into_iter().all(is_gone));
}
