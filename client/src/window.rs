//! How much may be in flight on one connection.
//!
//! A server answers in order and reads no further request while it is blocked in writing an answer.
//! If the client is blocked in sending at the same time, both wait for ever. A window excludes that:
//! either all unread answers together are small enough for the socket buffers, so that the server
//! never blocks, or all unanswered requests are, so that the client never does.

use mcomp_wire::limits;

/// Bytes that the socket buffers between two machines take for certain.
const BUFFERED: usize = 16 << 10;

/// Bytes in flight in either direction: enough to keep a fast connection busy, little enough that
/// many threads with many connections stay small.
const MAX_IN_FLIGHT: usize = 4 << 20;

/// What is in flight on one connection, in frames and bytes.
///
/// - `count <= limits::MAX_UNANSWERED`: the server remembers the answers of no more.
/// - With more than one frame in flight, `requests <= BUFFERED` or `answers <= BUFFERED`.
#[derive(Debug, Default)]
pub(crate) struct Window {
    count: usize,
    requests: usize,
    answers: usize,
}

impl Window {
    /// Whether a request of `request` bytes with an answer of `answer` bytes may be sent now. One is
    /// always admitted alone: a server reads a whole request before it answers.
    pub(crate) fn admits(&self, request: usize, answer: usize) -> bool {
        let (requests, answers) = (self.requests + request, self.answers + answer);
        self.count == 0
            || (self.count < limits::MAX_UNANSWERED
                && requests.max(answers) <= MAX_IN_FLIGHT
                && requests.min(answers) <= BUFFERED)
    }

    /// Counts a request that is being sent.
    pub(crate) fn add(&mut self, request: usize, answer: usize) {
        debug_assert!(self.admits(request, answer), "{request} and {answer} bytes into {self:?}");
        self.count += 1;
        self.requests += request;
        self.answers += answer;
    }

    /// Counts an answer that has arrived.
    pub(crate) fn remove(&mut self, request: usize, answer: usize) {
        assert!(self.count > 0, "an answer to nothing");
        self.count -= 1;
        self.requests -= request;
        self.answers -= answer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(request: usize, answer: usize) -> usize {
        let mut window = Window::default();
        while window.admits(request, answer) {
            window.add(request, answer);
        }
        window.count
    }

    #[test]
    fn big_requests_and_big_answers_never_mix() {
        let mut window = Window::default();
        window.add(64, 1 << 20);
        assert!(window.admits(64, 1 << 20));
        assert!(!window.admits(17 << 10, 48));
        window.remove(64, 1 << 20);
        window.add(1 << 20, 48);
        assert!(window.admits(1 << 20, 48));
        assert!(!window.admits(64, 17 << 10));
    }

    #[test]
    fn a_window_is_bounded_in_frames_and_bytes() {
        assert_eq!(fill(64, 48), limits::MAX_UNANSWERED);
        assert_eq!(fill(64, 256 << 10), 16);
        assert_eq!(fill(256 << 10, 48), 16);
        assert_eq!(fill(1 << 20, 1 << 20), 1, "alone it may be as large as the protocol allows");
    }
}
