//! Runs a model under many schedules: all of them up to a number of preemptions, or random ones.
//!
//! The threads are shuttle's, and so are the random schedulers and the schedule that is printed when a model fails. What
//! is added is [`Exhaustive`], which also tries each value that a load may return, and threads that can die.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;

use shuttle::rand::RngCore;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::{copy, machine, memory, shadow};

thread_local! {
    /// How many ways there are for the choice that is asked for.
    static WAYS: Cell<usize> = const { Cell::new(0) };
    /// An access to it is where shuttle may go on with another thread.
    static POINT: shuttle::sync::atomic::AtomicBool = const { shuttle::sync::atomic::AtomicBool::new(false) };
}

/// One of so many ways.
pub(crate) fn choose(ways: usize) -> usize {
    if ways == 1 {
        return 0;
    }
    WAYS.set(ways);
    (shuttle::rand::thread_rng().next_u64() % ways as u64) as usize
}

/// Lets another thread go on here, if the schedule says so.
pub(crate) fn point() {
    POINT.with(|point| point.load(SeqCst));
}

/// Every schedule with at most so many preemptions, and in each of them every value of every load.
///
/// It is a depth-first search over choices: each execution repeats those of the one before up to the last that has ways
/// left, and takes the next way there.
struct Exhaustive {
    choices: Vec<Choice>,
    /// The next choice of this execution.
    at: usize,
    preemptions_max: usize,
    preemptions: usize,
    executions_left: usize,
    has_begun: bool,
}

struct Choice {
    way: usize,
    ways: usize,
}

impl Exhaustive {
    fn new(preemptions_max: usize, executions_max: usize) -> Exhaustive {
        Exhaustive {
            choices: Vec::new(),
            at: 0,
            preemptions_max,
            preemptions: 0,
            executions_left: executions_max,
            has_begun: false,
        }
    }

    fn choose(&mut self, ways: usize) -> usize {
        if ways == 1 {
            return 0;
        }
        if self.at == self.choices.len() {
            self.choices.push(Choice { way: 0, ways });
        }
        let choice = &self.choices[self.at];
        assert_eq!(choice.ways, ways, "the model does not repeat itself");
        self.at += 1;
        choice.way
    }
}

impl Scheduler for Exhaustive {
    fn new_execution(&mut self) -> Option<Schedule> {
        if self.has_begun {
            while self.choices.last().is_some_and(|choice| choice.way + 1 == choice.ways) {
                self.choices.pop();
            }
            self.choices.last_mut()?.way += 1;
        }
        self.executions_left = self.executions_left.checked_sub(1)?;
        (self.has_begun, self.at, self.preemptions) = (true, 0, 0);
        Some(Schedule::new(0))
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, is_yielding: bool) -> Option<TaskId> {
        // Shuttle also offers to wake sleepers for no reason, for ever.
        let awake: Vec<TaskId> =
            runnable.iter().map(|task| task.id()).filter(|task| !machine::is_asleep(usize::from(*task))).collect();
        let current = current.filter(|current| awake.contains(current));
        let others = awake.iter().copied().filter(|task| Some(*task) != current);
        let ways: Vec<TaskId> = match current {
            // Going on costs nothing and comes first; another thread is a preemption.
            Some(current) if !is_yielding && self.preemptions < self.preemptions_max => {
                std::iter::once(current).chain(others).collect()
            }
            Some(current) if !is_yielding => vec![current],
            Some(current) if awake.len() == 1 => vec![current],
            _ => others.collect(),
        };
        let way = self.choose(ways.len());
        self.preemptions += usize::from(current.is_some() && !is_yielding && way > 0);
        Some(ways[way])
    }

    fn next_u64(&mut self) -> u64 {
        self.choose(WAYS.get()) as u64
    }
}

fn config(persistence: FailurePersistence) -> Config {
    let mut config = Config::new();
    config.failure_persistence = persistence;
    config.max_steps = MaxSteps::FailAfter(20_000);
    config.silence_warnings = true;
    config
}

/// A model is what one execution does. It panics when a promise is broken.
pub(crate) trait Model: Fn() + Send + Sync + Clone + 'static {}

impl<T: Fn() + Send + Sync + Clone + 'static> Model for T {}

fn run(scheduler: impl Scheduler + 'static, persistence: FailurePersistence, model: impl Model) -> usize {
    Runner::new(scheduler, config(persistence)).run(move || {
        memory::clear();
        machine::clear();
        copy::clear();
        shadow::clear();
        model();
    })
}

/// How much longer than usual to try: `MCOMP_TEST_SCHEDULES`, a factor.
fn patience() -> usize {
    std::env::var("MCOMP_TEST_SCHEDULES").map_or(1, |text| text.parse().expect("MCOMP_TEST_SCHEDULES: a number"))
}

/// Runs the model under every schedule with so many preemptions. A failure repeats itself.
pub(crate) fn all(preemptions_max: usize, model: impl Model) {
    let executions = run(Exhaustive::new(preemptions_max, usize::MAX), FailurePersistence::None, model);
    eprintln!("{executions} executions: all with at most {preemptions_max} preemptions");
}

/// Runs the model under so many random schedules, half of them of the kind that finds rare orders (PCT).
pub(crate) fn random(executions: usize, model: impl Model) {
    let seed = std::env::var("MCOMP_TEST_SEED").map_or_else(|_| new_seed(), |text| text.parse().expect("a number"));
    eprintln!("repeat with MCOMP_TEST_SEED={seed}");
    let half = executions * patience() / 2;
    run(RandomScheduler::new_from_seed(seed, half), FailurePersistence::Print, model.clone());
    run(PctScheduler::new_from_seed(seed, 4, half), FailurePersistence::Print, model);
}

/// Runs the model under so many schedules, always the same ones: to see where it comes by.
pub(crate) fn sample(executions: usize, model: impl Model) {
    run(RandomScheduler::new_from_seed(1, executions), FailurePersistence::Print, model);
}

fn new_seed() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_micros() as u64)
}

/// Whether one of so many executions, half of them random and half systematic, breaks a promise of the model.
pub(crate) fn is_caught(executions: usize, model: impl Model) -> bool {
    let half = executions * patience() / 2;
    let fails = |scheduler: Box<dyn Scheduler + Send>| {
        catch_unwind(AssertUnwindSafe(|| run(scheduler, FailurePersistence::None, model.clone()))).is_err()
    };
    fails(Box::new(RandomScheduler::new_from_seed(1, half))) || fails(Box::new(Exhaustive::new(2, half)))
}
