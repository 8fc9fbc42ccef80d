//! The end of a server that was replaced: the others have agreed that it is elsewhere now.
//!
//! A server does not end its own process: whoever runs it says with [`OnMoved`] how it is stopped.

use std::fmt;
use std::sync::Arc;

/// How a server is stopped whose place another one has taken: called with the address there, perhaps more than once. It
/// must return at once.
#[derive(Clone)]
pub struct OnMoved(Arc<dyn Fn(&str) + Send + Sync>);

impl OnMoved {
    /// Does `act`.
    pub fn new(act: impl Fn(&str) + Send + Sync + 'static) -> OnMoved {
        OnMoved(Arc::new(act))
    }

    pub(crate) fn call(&self, address: &str) {
        (self.0)(address);
    }
}

impl fmt::Debug for OnMoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnMoved")
    }
}
