//! Progress bars on stderr, for a person who waits.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::globals::Globals;

const TEMPLATE: &str = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
const SHARE_TEMPLATE: &str = "{msg} {bar:30} {percent:>3} % {eta}";

/// What [`share`] is told in: a thousandth.
const SHARES: u64 = 1000;

/// A bar to be told bytes done and bytes in all. It is not drawn unless stderr is a terminal, with
/// `--quiet`, or with `--json`, and it is wiped out when it is dropped.
pub(crate) fn bar(label: &str, globals: &Globals) -> impl FnMut(u64, u64) + use<> {
    let bar = drawn(TEMPLATE, globals);
    bar.0.set_message(label.to_owned());
    move |done, total| {
        // The whole guard, not only its field, must belong to the closure.
        let Wiped(bar) = &bar;
        bar.set_length(total);
        bar.set_position(done);
    }
}

/// A bar to be told what is being done, and which part of everything is done, from 0 to 1. It is drawn
/// and wiped out like [`bar`].
pub(crate) fn share(globals: &Globals) -> impl FnMut(&str, f64) + use<> {
    let bar = drawn(SHARE_TEMPLATE, globals);
    bar.0.set_length(SHARES);
    move |label, part| {
        let Wiped(bar) = &bar;
        bar.set_message(label.to_owned());
        bar.set_position((part * SHARES as f64) as u64);
    }
}

fn drawn(template: &str, globals: &Globals) -> Wiped {
    let target = match globals.shows_progress() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    let style = ProgressStyle::with_template(template).expect("the template is right");
    bar.set_style(style.progress_chars("=> "));
    Wiped(bar)
}

/// Wiped from the terminal when it is dropped.
struct Wiped(ProgressBar);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
