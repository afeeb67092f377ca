//! The progress bars of a long call and of files, on the standard error, and only where a person can see it.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Readable;

/// A bar that vanishes when it is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for `count` steps, or none at all.
    pub(crate) fn new(count: u64, is_shown: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(count), target(is_shown));
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

/// The bars of files that are on their way at the same time.
pub(crate) struct FileBars(MultiProgress);

impl FileBars {
    pub(crate) fn new(is_shown: bool) -> Self {
        Self(MultiProgress::with_draw_target(target(is_shown)))
    }

    /// One more, of a file of this many bytes, as far as that is known.
    pub(crate) fn add(&self, name: &str, len: Option<u64>) -> Progress {
        let template = match len {
            Some(_) => "{msg} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{msg} {bytes}, {bytes_per_sec}",
        };
        let bar = ProgressBar::with_draw_target(len, ProgressDrawTarget::hidden())
            .with_message(Readable(name.as_bytes()).to_string());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress(self.0.add(bar))
    }

    /// Makes room for what `print` prints.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }
}

/// The standard error, which hides bars by itself when it is no terminal.
fn target(is_shown: bool) -> ProgressDrawTarget {
    if is_shown {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
