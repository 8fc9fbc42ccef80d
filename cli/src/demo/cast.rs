//! Who plays in the demo: a cluster of child processes on the scratch folder, and a client of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mcomp_client::Cluster;
use mcomp_config::Config;

use super::scratch::Scratch;
use crate::exit::{Exit, Failure};
use crate::up::{Change, Events, Launch, LaunchError, Messages, Role, Supervisor, signal_name};

/// Enough for any machine that can run a demo.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// How often other ports are tried when somebody else was faster.
const PORT_TRIES: u32 = 5;

/// What a variable of the environment begins with when it is meant for mcomp, and the only one of
/// them that says nothing about a cluster.
const OUR_VARIABLES: &str = "MCOMP_";
const LOG_VARIABLE: &str = "MCOMP_LOG";

/// What all clusters of one demo share.
#[derive(Debug)]
pub(super) struct Cast<'e> {
    pub(super) scratch: &'e Scratch,
    events: &'e Events,
    program: PathBuf,
    /// What the children wrote to stderr.
    messages: Arc<Mutex<Vec<String>>>,
}

/// A running cluster. Dropping it kills its processes; its memory stays.
#[derive(Debug)]
pub(super) struct Running<'e> {
    pub(super) config: Config,
    pub(super) cluster: Cluster,
    supervisor: Supervisor<'e>,
}

impl<'e> Cast<'e> {
    pub(super) fn new(scratch: &'e Scratch, events: &'e Events) -> Result<Cast<'e>, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::io("find this executable", &error))?;
        Ok(Cast { scratch, events, program, messages: Arc::default() })
    }

    /// Starts `n` servers and snapshot processes with `k_bytes` each. Call it from the main thread.
    pub(super) fn start(&self, n: u32, k_bytes: u64) -> anyhow::Result<Running<'e>> {
        let mut tries = 1;
        loop {
            let config = self.scratch.configure(n, k_bytes)?;
            let mut supervisor = Supervisor::new(self.events, self.launch(&config));
            let roles: Vec<Role> = (0..n).map(Role::Server).chain((0..n).map(Role::Snapshotter)).collect();
            match supervisor.start(&roles, READY_PATIENCE) {
                Ok(()) => {
                    let cluster = Cluster::connect(&config)?;
                    return Ok(Running { config, cluster, supervisor });
                }
                Err(error) if is_taken_port(&error) && tries < PORT_TRIES => tries += 1,
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
    }

    /// An error when the demo was asked to stop.
    pub(super) fn check_asked(&self) -> Result<(), Failure> {
        self.events.asked().map_or(Ok(()), |signal| Err(interrupted(signal)))
    }

    /// What the processes wrote to stderr so far.
    pub(super) fn messages(&self) -> Vec<String> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn launch(&self, config: &Config) -> Launch {
        let is_hidden = |name: &OsString| name.to_string_lossy().starts_with(OUR_VARIABLES) && name != LOG_VARIABLE;
        Launch {
            program: self.program.clone(),
            flags: vec!["--config".into(), config.path().into()],
            hidden_variables: std::env::vars_os().map(|(name, _)| name).filter(is_hidden).collect(),
            messages: Messages::Kept(Arc::clone(&self.messages)),
        }
    }
}

/// Whether another try with other ports may go better: the name is new, so what is in use is a port.
fn is_taken_port(error: &LaunchError) -> bool {
    error.exit_code_of_child() == Some(Exit::TRY_AGAIN.code())
}

fn interrupted(signal: i32) -> Failure {
    Failure::new(Exit::TRY_AGAIN, "interrupted", format!("stopped by {}", signal_name(signal)))
}

impl Running<'_> {
    /// How many processes there are.
    pub(super) fn processes(&self) -> usize {
        self.supervisor.running().count()
    }

    /// Lets time pass. An error when a process dies meanwhile, or the demo is asked to stop.
    pub(super) fn pause(&mut self, pause: Duration) -> Result<(), Failure> {
        match self.supervisor.next_before(Instant::now() + pause) {
            // A demo has no control socket.
            None | Some(Change::Called(_)) => Ok(()),
            Some(Change::Died(death)) => Err(Failure::new(Exit::UNAVAILABLE, "unavailable", death.to_string())),
            Some(Change::Asked { signal }) => Err(interrupted(signal)),
        }
    }

    /// Stops all processes in order; how many there were.
    pub(super) fn stop(mut self) -> usize {
        let processes = self.processes();
        // The client leaves first, so that no server waits for it.
        drop(self.cluster);
        self.supervisor.stop();
        processes
    }
}
