//! One window of measuring: round trips of one connection, or the rate of many.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::peer::Conn;
use crate::usage;

/// The slowest round trip that is told apart from slower ones.
const SLOWEST_NS: u64 = 60_000_000_000;

/// What one window found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// In the unit of the case.
    pub(crate) value: f64,
    /// The 99th percentile of round trips.
    pub(crate) p99_us: Option<f64>,
    /// What one operation costs the servers.
    pub(crate) server_us: Option<f64>,
}

/// Round trips of one connection, one after the other: the median in microseconds.
pub(crate) fn trips(conn: &mut dyn Conn, servers: &[u32], window: Duration) -> anyhow::Result<Sample> {
    let before_ns = used_ns(servers)?;
    let trips = Trips::run(conn, |elapsed| elapsed < window)?;
    let used_ns = used_ns(servers)? - before_ns;
    Ok(Sample {
        value: trips.quantile_us(0.5),
        p99_us: Some(trips.quantile_us(0.99)),
        server_us: (!servers.is_empty()).then(|| used_ns as f64 / 1e3 / trips.0.len() as f64),
    })
}

/// What these processes have used together.
fn used_ns(servers: &[u32]) -> anyhow::Result<u64> {
    servers.iter().map(|server| usage::cpu_ns(*server)).sum()
}

/// How long round trips took.
#[derive(Debug)]
pub(crate) struct Trips(Histogram<u64>);

impl Trips {
    /// Round trips of one connection, one after the other, for as long as `go_on` likes: it is told how
    /// long it has been.
    pub(crate) fn run(conn: &mut dyn Conn, go_on: impl Fn(Duration) -> bool) -> anyhow::Result<Trips> {
        let mut histogram = Histogram::new_with_bounds(1, SLOWEST_NS, 3)?;
        let start = Instant::now();
        let mut last = start;
        while go_on(last - start) {
            conn.run()?;
            let now = Instant::now();
            histogram.saturating_record((now - last).as_nanos() as u64);
            last = now;
        }
        Ok(Trips(histogram))
    }

    /// The time that such a part of them took at most.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// What connections do side by side, one thread each: thousand operations a second. A call of a
/// connection is `depth` operations.
pub(crate) fn rate(
    conns: &mut [Box<dyn Conn>],
    depth: usize,
    servers: &[u32],
    window: Duration,
) -> anyhow::Result<Sample> {
    let stop = AtomicBool::new(false);
    let start = Barrier::new(conns.len() + 1);
    let before_ns = used_ns(servers)?;
    let (calls, elapsed) = thread::scope(|scope| {
        let threads: Vec<_> = conns.iter_mut().map(|conn| scope.spawn(|| count(conn, &start, &stop))).collect();
        start.wait();
        let began = Instant::now();
        thread::sleep(window);
        stop.store(true, Ordering::Relaxed);
        let elapsed = began.elapsed();
        let mut calls = 0;
        for thread in threads {
            calls += thread.join().map_err(|_| anyhow::anyhow!("a measuring thread panicked"))??;
        }
        anyhow::Ok((calls, elapsed))
    })?;
    let used_ns = used_ns(servers)? - before_ns;
    let operations = (calls * depth as u64) as f64;
    Ok(Sample {
        value: operations / elapsed.as_secs_f64() / 1e3,
        p99_us: None,
        server_us: (!servers.is_empty()).then(|| used_ns as f64 / 1e3 / operations),
    })
}

/// Runs until told to stop, and counts.
fn count(conn: &mut Box<dyn Conn>, start: &Barrier, stop: &AtomicBool) -> anyhow::Result<u64> {
    start.wait();
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        conn.run()?;
        calls += 1;
    }
    Ok(calls)
}

/// The mean of a call that is too short to time by itself, in nanoseconds.
pub(crate) fn mean_ns(window: Duration, mut call: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Sample> {
    /// Calls between two looks at the clock.
    const BURST: u32 = 64;
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < window {
        for _ in 0..BURST {
            call()?;
        }
        calls += BURST;
    }
    Ok(Sample { value: start.elapsed().as_nanos() as f64 / f64::from(calls), ..Sample::default() })
}
