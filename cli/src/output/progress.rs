//! Progress bars on stderr, for a person who waits.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;

use crate::globals::Globals;

const TEMPLATE: &str = "{msg} {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
const SHARE_TEMPLATE: &str = "{msg} {bar:24} {percent:>3} % {eta}";
/// What fits into a line of few columns: one that wraps cannot be wiped out again.
const NARROW_TEMPLATE: &str = "{msg} {percent:>3} %";

/// What the longest line of [`TEMPLATE`] takes.
const COLUMNS_WANTED: u16 = 80;

/// What [`share`] is told in: a thousandth.
const SHARES: u64 = 1000;

/// A bar to be told bytes done and bytes in all. It is not drawn unless stderr is a terminal, with
/// `--quiet`, or with `--json`, and it is wiped out when it is dropped.
pub(crate) fn bar(label: &str, globals: &Globals) -> impl FnMut(u64, u64) + use<> {
    let bar = drawn(TEMPLATE, label, None, globals);
    move |done, total| {
        // The whole guard, not only its field, must belong to the closure.
        let Wiped(bar) = &bar;
        // A bar of nothing looks full, and each call draws.
        if total > 0 {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}

/// A bar to be told what is being done, and which part of everything is done, from 0 to 1. It is drawn
/// and wiped out like [`bar`].
pub(crate) fn share(globals: &Globals) -> impl FnMut(&str, f64) + use<> {
    let bar = drawn(SHARE_TEMPLATE, "", Some(SHARES), globals);
    move |label, part| {
        let Wiped(bar) = &bar;
        bar.set_message(label.to_owned());
        bar.set_position((part * SHARES as f64) as u64);
    }
}

/// A bar that is drawn when it is first told something.
fn drawn(template: &str, label: &str, len: Option<u64>, globals: &Globals) -> Wiped {
    let target = match globals.shows_progress() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let template = if columns() < COLUMNS_WANTED { NARROW_TEMPLATE } else { template };
    let style = ProgressStyle::with_template(template).expect("the template is right").progress_chars("=> ");
    let bar = ProgressBar::with_draw_target(len, target).with_style(style).with_message(label.to_owned());
    Wiped(bar)
}

/// The width of the terminal.
fn columns() -> u16 {
    tcgetwinsize(std::io::stderr()).map_or(COLUMNS_WANTED, |size| size.ws_col)
}

/// Wiped from the terminal when it is dropped.
struct Wiped(ProgressBar);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
