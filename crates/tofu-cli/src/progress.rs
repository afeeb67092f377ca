//! The progress bar of a long call, on the standard error, and only where a person can see it.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that vanishes when it is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for `count` steps, or none at all.
    pub(crate) fn new(count: u64, is_shown: bool) -> Self {
        // Hides itself when the standard error is no terminal.
        let target = if is_shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(count), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// So many steps are done.
    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Makes room for what is said at the end.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
