//! Who and when we are: boot, user, process, time. Each is read from the system, so only the edges call this.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::ShmError;

const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's name for the time since the last boot. A segment of another boot is not memory that survived.
pub(crate) fn boot_id() -> Result<[u8; 16], ShmError> {
    let unreadable = |source| ShmError::Io { action: "read", path: Path::new(BOOT_ID_PATH).into(), source };
    let text = fs::read_to_string(BOOT_ID_PATH).map_err(unreadable)?;
    let id = uuid::Uuid::try_parse(text.trim()).map_err(|error| unreadable(std::io::Error::other(error)))?;
    Ok(id.into_bytes())
}

/// Milliseconds since 1970, 0 when the clock stands before it.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The user that owns the segments of this process.
pub(crate) fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}
