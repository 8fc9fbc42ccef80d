//! One-way links between servers: in order while a connection lasts, and nothing of an older connection after it.

use fastrand::Rng;

/// What goes wrong on a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Nothing gets through, and nobody is told.
    pub(crate) cut: bool,
    /// The least and the most that a message takes, in milliseconds.
    pub(crate) delay_ms: (u64, u64),
    /// One message in so many breaks the connection; 0 for none.
    pub(crate) breaks: u32,
}

impl Weather {
    pub(crate) const FAIR: Weather = Weather { cut: false, delay_ms: (0, 2), breaks: 0 };
}

/// One direction between two servers.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) weather: Weather,
    /// Counts connections; a message of an older one is dropped.
    pub(crate) connection: u64,
    /// When the last message of this connection arrives: the next one does not overtake it.
    last_ms: u64,
}

impl Link {
    pub(crate) fn new() -> Link {
        Link { weather: Weather::FAIR, connection: 0, last_ms: 0 }
    }

    /// When a message that leaves now arrives, or that the connection broke.
    pub(crate) fn send(&mut self, now_ms: u64, rng: &mut Rng) -> Option<u64> {
        if self.weather.breaks > 0 && rng.u32(..self.weather.breaks) == 0 {
            self.connection += 1;
            self.last_ms = 0;
            return None;
        }
        let (least, most) = self.weather.delay_ms;
        self.last_ms = self.last_ms.max(now_ms + rng.u64(least..=most));
        Some(self.last_ms)
    }
}
