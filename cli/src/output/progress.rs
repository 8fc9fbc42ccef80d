//! Progress bars on stderr, for a person who waits.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::globals::Globals;

const TEMPLATE: &str = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";

/// A bar to be told bytes done and bytes in all. It is not drawn unless stderr is a terminal, with
/// `--quiet`, or with `--json`, and it is wiped out when it is dropped.
pub(crate) fn bar(label: &str, globals: &Globals) -> impl FnMut(u64, u64) + use<> {
    let target = match globals.shows_progress() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is right");
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(label.to_owned());
    let bar = Wiped(bar);
    move |done, total| {
        // The whole guard, not only its field, must belong to the closure.
        let Wiped(bar) = &bar;
        bar.set_length(total);
        bar.set_position(done);
    }
}

/// Wiped from the terminal when it is dropped.
struct Wiped(ProgressBar);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
