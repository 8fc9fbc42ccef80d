//! What a process has used, as /proc tells it: processor time and resident memory.

use std::fs;

use anyhow::Context;

/// Nanoseconds that all threads of the process have run so far. Exact for threads that sleep.
pub(crate) fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}: has the server ended?"))?;
    let mut sum_ns = 0;
    for task in tasks {
        // A thread that ends meanwhile takes its time with it; measured servers keep theirs.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum_ns += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum_ns)
}

/// Bytes of the process that are in memory, files and shared memory left out.
pub(crate) fn private_bytes(pid: u32) -> anyhow::Result<u64> {
    field(&format!("/proc/{pid}/status"), "RssAnon:")
}

/// Bytes of this process that are in memory.
pub(crate) fn own_bytes() -> anyhow::Result<u64> {
    field("/proc/self/status", "VmRSS:")
}

/// The most that were in memory since [`forget_own_peak`].
pub(crate) fn own_peak_bytes() -> anyhow::Result<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Starts the peak anew.
pub(crate) fn forget_own_peak() -> anyhow::Result<()> {
    fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of this process's memory")
}

/// A field of a file in /proc that is given in kB.
pub(crate) fn field(path: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(value.with_context(|| format!("{path} has no {name}"))? * 1024)
}
