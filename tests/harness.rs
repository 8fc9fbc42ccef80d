//! Real clusters for the tests: real processes, sockets and segments, gone when the test ends.
//!
//! Each cluster has a name, a scratch folder and a loopback address of its own, so tests run in
//! parallel with themselves and with anything else on the machine. Dropping a cluster, also in a
//! panic, kills its processes by pid, removes its segments and its folder; and should the test
//! process itself be killed, the children die with it.

/// The network among the servers, which can be broken.
mod network;

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mcomp_client::Cluster as Client;
use mcomp_config::{Config, Overrides};
use mcomp_net::auth::Keyring;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) use network::{Network, Rule};

/// The binary under test.
pub(crate) const MCOMP: &str = env!("CARGO_BIN_EXE_mcomp");

/// How long anything that should happen may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a cluster should look like.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    n: u32,
    k: String,
    extra: String,
    env: Vec<(String, String)>,
    secret: Option<Keyring>,
    breakable: bool,
    replicas: u32,
}

impl Setup {
    /// `n` servers that lend `k` each.
    pub(crate) fn new(n: u32, k: &str) -> Setup {
        Setup { n, k: k.to_owned(), extra: String::new(), env: Vec::new(), secret: None, breakable: false, replicas: 1 }
    }

    /// More lines of mcomp.cfg, for instance a `[limits]` section.
    pub(crate) fn with(mut self, lines: &str) -> Setup {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// A secret for all processes, and for the clients that read mcomp.cfg.
    pub(crate) fn secret(mut self, keyring: &Keyring) -> Setup {
        self.secret = Some(keyring.clone());
        self.with("[security]\nsecret_file = \"mcomp.secret\"")
    }

    /// So many copies of each block.
    pub(crate) fn replicated(mut self, replicas: u32) -> Setup {
        self.replicas = replicas;
        self
    }

    /// The servers reach each other through a [`Network`] that can be broken.
    pub(crate) fn breakable(mut self) -> Setup {
        self.breakable = true;
        self
    }

    /// A variable for every process of the cluster.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the folder and mcomp.cfg, starts nothing.
    pub(crate) fn prepare(self) -> Cluster {
        Cluster::prepare(self)
    }

    /// Starts all servers.
    pub(crate) fn servers(self) -> Cluster {
        let mut cluster = self.prepare();
        (0..cluster.n).for_each(|id| cluster.start_server(id));
        cluster
    }

    /// Starts all servers and all snapshot processes.
    pub(crate) fn start(self) -> Cluster {
        let mut cluster = self.servers();
        (0..cluster.n).for_each(|id| cluster.start_snapshotter(id));
        cluster
    }
}

/// A cluster of real processes.
pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) name: String,
    pub(crate) n: u32,
    ip: String,
    config_path: PathBuf,
    env: Vec<(String, String)>,
    servers: Vec<Option<Child>>,
    snapshotters: Vec<Option<Child>>,
    network: Option<Network>,
}

impl Cluster {
    fn prepare(setup: Setup) -> Cluster {
        let (name, ip) = unique();
        let dir = tempfile::Builder::new().prefix("mcomp-test-").tempdir().expect("a scratch folder");
        let config_path = dir.path().join("mcomp.cfg");
        let none = |n: u32| (0..n).map(|_| None).collect();
        let mut cluster = Cluster {
            dir,
            name,
            n: setup.n,
            ip,
            config_path,
            env: setup.env.clone(),
            servers: none(setup.n),
            snapshotters: none(setup.n),
            network: None,
        };
        if setup.breakable {
            cluster.network = Some(Network::among((0..setup.n).map(|id| cluster.address(id)).collect()));
        }
        cluster.write_config(&setup);
        cluster
    }

    fn write_config(&self, setup: &Setup) {
        let text = self.config_text(setup, |id| self.address(id));
        fs::write(&self.config_path, text).expect("mcomp.cfg is written");
        if let Some(network) = &self.network {
            for own in 0..setup.n {
                let reach = |id| if id == own { self.address(id) } else { network.address(own, id) };
                fs::write(self.config_of_server(own), self.config_text(setup, reach)).expect("mcomp.cfg is written");
            }
        }
        if let Some(keyring) = &setup.secret {
            keyring.store(&self.secret_path(), "", true).expect("the secret is written");
        }
    }

    fn config_text(&self, setup: &Setup, address: impl Fn(u32) -> String) -> String {
        let mut text = format!("[cluster]\nname = \"{}\"\nk = \"{}\"\nn = {}\n", self.name, setup.k, setup.n);
        if setup.replicas > 1 {
            text.push_str(&format!("replicas = {}\n", setup.replicas));
        }
        for id in 0..setup.n {
            let (address, snapshot) = (address(id), self.snapshot_address(id));
            text.push_str(&format!("[[server]]\naddress = \"{address}\"\nsnapshot = \"{snapshot}\"\n"));
        }
        text + &setup.extra
    }

    /// What server `id` goes by: the others are where the network has them, if it can be broken.
    fn config_of_server(&self, id: u32) -> PathBuf {
        if self.network.is_some() { self.dir.path().join(format!("server-{id}.cfg")) } else { self.config_path.clone() }
    }

    /// The network among the servers, which was asked for.
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("the cluster was set up with a network that can be broken")
    }

    /// Waits until every server takes part with all of its memory.
    pub(crate) fn wait_until_whole(&self) {
        let client = self.client();
        wait_until("every server serves all of its memory", || {
            client.statuses().into_iter().all(|status| status.is_ok_and(|status| status.state == "serving"))
        });
    }

    /// Where the memory of server `id` is.
    pub(crate) fn segment_path(&self, id: u32) -> PathBuf {
        PathBuf::from(format!("/dev/shm/mcomp.{}.{id}", self.name))
    }

    /// Ends all processes, removes all segments, and goes on with another shape in the same folder:
    /// what was there before is lost, but for the snapshots.
    pub(crate) fn replace(&mut self, setup: Setup) {
        self.end_all();
        let _ = fs::remove_dir_all(self.metadata_dir());
        (self.n, self.env) = (setup.n, setup.env.clone());
        self.servers = (0..setup.n).map(|_| None).collect();
        self.snapshotters = (0..setup.n).map(|_| None).collect();
        self.write_config(&setup);
    }

    /// Writes a mcomp.cfg with one more server, which does not run yet.
    pub(crate) fn list_another(&mut self, setup: Setup) {
        self.n += 1;
        self.servers.push(None);
        self.snapshotters.push(None);
        self.write_config(&Setup { n: self.n, ..setup });
    }

    /// Where server `id` listens.
    pub(crate) fn address(&self, id: u32) -> String {
        format!("{}:{}", self.ip, 7401 + id)
    }

    /// Where the snapshot process of server `id` listens.
    pub(crate) fn snapshot_address(&self, id: u32) -> String {
        format!("{}:{}", self.ip, 7501 + id)
    }

    pub(crate) fn config_path(&self) -> &Path {
        &self.config_path
    }

    pub(crate) fn secret_path(&self) -> PathBuf {
        self.dir.path().join("mcomp.secret")
    }

    pub(crate) fn snapshot_dir(&self) -> PathBuf {
        self.dir.path().join("snapshots")
    }

    /// Where the servers keep what they agree on.
    pub(crate) fn metadata_dir(&self) -> PathBuf {
        self.dir.path().join("metadata")
    }

    /// The configuration as a program reads it.
    pub(crate) fn config(&self) -> Config {
        config_at(&self.config_path)
    }

    /// A client of its own.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.config()).expect("a client")
    }

    /// A client that does not make use of being on the same machine.
    pub(crate) fn remote_client(&self) -> Client {
        let mut options = mcomp_client::Options::from_config(&self.config());
        (options.segment, options.unix) = (false, false);
        Client::with_options(options).expect("a client")
    }

    /// Starts server `id` and waits until it serves. Called from the thread of the test: a child
    /// dies with the thread that started it.
    pub(crate) fn start_server(&mut self, id: u32) {
        self.start_server_saying(id);
    }

    /// Starts server `id`, waits until it serves, and returns what it says then.
    pub(crate) fn start_server_saying(&mut self, id: u32) -> String {
        let (child, ready) = self.start_process(&[], "server", id);
        self.servers[id as usize] = Some(child);
        ready
    }

    /// Starts another process as server `id` over the one that runs. That one must end well; what the new one says
    /// when it is ready.
    pub(crate) fn succeed_server(&mut self, id: u32) -> String {
        let (child, ready) = self.start_process(&[], "server", id);
        let mut before = self.servers[id as usize].replace(child);
        let code = wait_for_end(before.as_mut().expect("it ran")).code();
        assert_eq!(code, Some(0), "server {id} hands over well\n{}", self.log("server", id));
        ready
    }

    /// Starts server `id` with the words of `wrapper` before its command line: a program that changes
    /// its own surroundings and then becomes the command that follows.
    pub(crate) fn start_server_under(&mut self, wrapper: &[&str], id: u32) {
        let (child, _) = self.start_process(wrapper, "server", id);
        self.servers[id as usize] = Some(child);
    }

    /// Starts another process as server `id`, by a mcomp.cfg of its own and under a wrapper. The one that runs is not
    /// waited for: it is what comes back.
    pub(crate) fn start_server_elsewhere(&mut self, id: u32, config: &Path, wrapper: &[&str]) -> Moved {
        let (child, _) = self.start_process_by(config, wrapper, "server", id);
        Moved(self.servers[id as usize].replace(child).into())
    }

    /// Starts snapshot process `id` and waits until it serves.
    pub(crate) fn start_snapshotter(&mut self, id: u32) {
        self.start_snapshotter_under(&[], id);
    }

    /// Starts snapshot process `id` with the words of `wrapper` before its command line.
    pub(crate) fn start_snapshotter_under(&mut self, wrapper: &[&str], id: u32) {
        let (child, _) = self.start_process(wrapper, "snapshotter", id);
        self.snapshotters[id as usize] = Some(child);
    }

    /// Kills server `id` on the spot.
    pub(crate) fn kill_server(&mut self, id: u32) {
        end(&mut self.servers[id as usize], Signal::KILL);
    }

    /// Stops server `id` in good order; its exit code must be 0.
    pub(crate) fn stop_server(&mut self, id: u32) {
        let code = end(&mut self.servers[id as usize], Signal::TERM);
        assert_eq!(code, Some(0), "server {id} stops cleanly\n{}", self.log("server", id));
    }

    /// Kills snapshot process `id` on the spot.
    pub(crate) fn kill_snapshotter(&mut self, id: u32) {
        end(&mut self.snapshotters[id as usize], Signal::KILL);
    }

    /// Stops snapshot process `id` in good order.
    pub(crate) fn stop_snapshotter(&mut self, id: u32) {
        let code = end(&mut self.snapshotters[id as usize], Signal::TERM);
        assert_eq!(code, Some(0), "snapshot process {id} stops cleanly\n{}", self.log("snapshotter", id));
    }

    /// Freezes (or thaws) snapshot process `id`.
    pub(crate) fn signal_snapshotter(&self, id: u32, signal: Signal) {
        signal_child(self.snapshotters[id as usize].as_ref(), signal);
    }

    /// Sends a signal to server `id`.
    pub(crate) fn signal_server(&self, id: u32, signal: Signal) {
        signal_child(self.servers[id as usize].as_ref(), signal);
    }

    /// Bytes of memory that server `id` has touched, its mappings included.
    pub(crate) fn resident_bytes_of_server(&self, id: u32) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server_pid(id))).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Freezes server `id`, and waits until all of it stands still.
    pub(crate) fn freeze_server(&self, id: u32) {
        freeze(self.server_pid(id));
    }

    /// The pid of server `id`.
    pub(crate) fn server_pid(&self, id: u32) -> u32 {
        self.servers[id as usize].as_ref().expect("the server runs").id()
    }

    /// The pid of snapshot process `id`.
    pub(crate) fn snapshotter_pid(&self, id: u32) -> u32 {
        self.snapshotters[id as usize].as_ref().expect("the snapshot process runs").id()
    }

    /// The `mcomp` command on this cluster, not yet run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_by(&self.config_path, args)
    }

    fn command_by(&self, config: &Path, args: &[&str]) -> Command {
        let mut command = mcomp(args);
        command.arg("--config").arg(config).current_dir(self.dir.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the `mcomp` command on this cluster.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("mcomp runs")
    }

    /// Runs it, expects success, and returns its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run(args);
        assert!(output.status.success(), "mcomp {args:?}: {output:?}");
        output.stdout
    }

    /// Runs it and expects this exit code.
    pub(crate) fn exits(&self, code: i32, args: &[&str]) -> Output {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "mcomp {args:?}: {output:?}");
        output
    }

    /// What a process of the cluster has written to stderr.
    pub(crate) fn log(&self, role: &str, id: u32) -> String {
        fs::read_to_string(self.log_path(role, id)).unwrap_or_default()
    }

    fn log_path(&self, role: &str, id: u32) -> PathBuf {
        self.dir.path().join(format!("{role}-{id}.log"))
    }

    fn start_process(&self, wrapper: &[&str], role: &str, id: u32) -> (Child, String) {
        let config = if role == "server" { self.config_of_server(id) } else { self.config_path.clone() };
        self.start_process_by(&config, wrapper, role, id)
    }

    fn start_process_by(&self, config: &Path, wrapper: &[&str], role: &str, id: u32) -> (Child, String) {
        let log = File::options().create(true).append(true).open(self.log_path(role, id)).expect("a log");
        let mut command = self.command_by(config, &[role, "--id", &id.to_string()]);
        command.arg("--die-with").arg(std::process::id().to_string());
        let mut command = under(wrapper, command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().expect("mcomp starts");
        let mut ready = String::new();
        let read = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready);
        if read.is_err() || !ready.contains("ready") {
            let _ = child.kill();
            let status = child.wait();
            panic!("{role} {id} did not start: {status:?} {ready}\n{}", self.log(role, id));
        }
        (child, ready)
    }

    fn end_all(&mut self) {
        for child in self.snapshotters.iter_mut().chain(&mut self.servers) {
            end(child, Signal::KILL);
        }
        let prefix = format!("mcomp.{}.", self.name);
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (role, id) in (0..self.n).flat_map(|id| [("server", id), ("snapshotter", id)]) {
                let log = self.log(role, id);
                if !log.is_empty() {
                    eprintln!("--- {role} {id}\n{log}");
                }
            }
        }
        self.end_all();
    }
}

/// A mcomp.cfg as a program reads it.
pub(crate) fn config_at(path: &Path) -> Config {
    let text = fs::read_to_string(path).expect("mcomp.cfg is read");
    Config::parse(&text, path, &Overrides::default()).expect("mcomp.cfg is valid")
}

/// A server whose place another one takes: it is killed when it is dropped, if it has not ended.
pub(crate) struct Moved(RefCell<Option<Child>>);

impl Moved {
    /// Kills it on the spot.
    pub(crate) fn kill(&self) {
        end(&mut self.0.borrow_mut(), Signal::KILL);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_child(self.0.borrow().as_ref(), signal);
    }

    /// It must end well by itself, unless it was killed.
    pub(crate) fn end(&self) {
        if let Some(mut child) = self.0.borrow_mut().take() {
            assert_eq!(wait_for_end(&mut child).code(), Some(0), "who was replaced ends well");
        }
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The `mcomp` command without a cluster, in an environment without ours.
pub(crate) fn mcomp(args: &[&str]) -> Command {
    let mut command = Command::new(MCOMP);
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MCOMP_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// The same command with the words of `wrapper` before it; see [`Cluster::start_server_under`].
pub(crate) fn under(wrapper: &[&str], command: Command) -> Command {
    let Some((program, words)) = wrapper.split_first() else { return command };
    let mut wrapped = Command::new(program);
    wrapped.args(words).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}

/// The lines of a child's stdout as they come, each with its newline; closed when stdout is.
pub(crate) fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
        while stdout.read_line(&mut line).expect("lines are UTF-8") > 0 {
            // Who stopped listening does not stop the child.
            let _ = sender.send(std::mem::take(&mut line));
        }
    });
    lines
}

/// Waits until `event` has happened.
pub(crate) fn wait_until(what: &str, mut event: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !event() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        std::thread::yield_now();
    }
}

/// The length of a torture: `small` in a quick run, otherwise what the variable says.
pub(crate) fn length(variable: &str, small: u64) -> u64 {
    std::env::var(variable).ok().map_or(small, |text| text.parse().expect("a number"))
}

/// Seed of a random test: printed, and taken from MCOMP_TEST_SEED when it is set.
pub(crate) fn seed() -> u64 {
    let chosen = std::env::var("MCOMP_TEST_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = chosen.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("repeat with MCOMP_TEST_SEED={seed}");
    seed
}

/// Ends a child and returns its exit code.
fn end(child: &mut Option<Child>, signal: Signal) -> Option<i32> {
    let mut child = child.take()?;
    signal_child(Some(&child), signal);
    if signal == Signal::KILL {
        return child.wait().ok()?.code();
    }
    // A frozen one hears nothing else.
    signal_child(Some(&child), Signal::CONT);
    wait_for_end(&mut child).code()
}

fn wait_for_end(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => return status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("a process did not stop within {PATIENCE:?}");
            }
            None => std::thread::yield_now(),
        }
    }
}

fn signal_child(child: Option<&Child>, signal: Signal) {
    // The child has not been waited for, so its pid is still its own.
    let pid = child.and_then(|child| Pid::from_raw(child.id().cast_signed())).expect("the process runs");
    kill_process(pid, signal).expect("a child can be signalled");
}

/// Freezes a child of this process, and waits until all of it stands still.
pub(crate) fn freeze(child: u32) {
    signal(child, Signal::STOP);
    wait_until("every thread of the process stands still", || is_frozen(child));
}

/// Sends a signal to a child of this process that has not been waited for, so that its pid is still its own.
pub(crate) fn signal(child: u32, signal: Signal) {
    let pid = Pid::from_raw(child.cast_signed()).expect("a pid");
    kill_process(pid, signal).expect("a child can be signalled");
}

/// Whether the kernel has stopped all threads of a process: the signal alone does not say so.
fn is_frozen(pid: u32) -> bool {
    let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let state = |task: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        // The name before it may have blanks, and ends with the last bracket.
        stat.rsplit(')').next()?.trim_start().chars().next()
    };
    tasks.all(|task| state(task) == Some('T'))
}

/// A cluster name and a loopback address that nobody else has: both carry the pid and a number.
fn unique() -> (String, String) {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    assert!(number < 500, "one test process starts at most 499 clusters");
    let (hundreds, ones) = (number / 250, number % 250);
    (format!("t{pid}-{number}"), format!("127.{}.{}.{}", 1 + (pid >> 8) % 126 + 127 * hundreds, pid % 256, 1 + ones))
}
