//! The cluster's time: milliseconds that go by while somebody leads.

/// The cluster's time at a leader, by its own clock since it took over; elsewhere a guess for people.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// The latest time of this machine's clock.
    local_ms: u64,
    /// When this server began to lead, by both clocks.
    lead: Option<(u64, u64)>,
    /// When the last entry was applied, by this machine's clock.
    heard_ms: u64,
}

impl Clock {
    /// Takes the time of this machine's clock, which counts also while the machine sleeps. It never goes back.
    pub(crate) fn set(&mut self, local_ms: u64) {
        self.local_ms = self.local_ms.max(local_ms);
    }

    pub(crate) fn local_ms(&self) -> u64 {
        self.local_ms
    }

    /// From now on this server's clock counts, beginning where the log has come to.
    pub(crate) fn begin_to_lead(&mut self, cluster_ms: u64) {
        self.lead = Some((cluster_ms, self.local_ms));
    }

    pub(crate) fn stop_to_lead(&mut self) {
        self.lead = None;
    }

    pub(crate) fn heard(&mut self) {
        self.heard_ms = self.local_ms;
    }

    /// The cluster's time, if this server's clock is the one that counts.
    pub(crate) fn leader_ms(&self) -> Option<u64> {
        self.lead.map(|(cluster_ms, since_ms)| cluster_ms + (self.local_ms - since_ms))
    }

    /// What the time may be, when the last entry said `applied_ms`. Nothing depends on it.
    pub(crate) fn guess_ms(&self, applied_ms: u64) -> u64 {
        self.leader_ms().unwrap_or(applied_ms + self.local_ms.saturating_sub(self.heard_ms))
    }
}
