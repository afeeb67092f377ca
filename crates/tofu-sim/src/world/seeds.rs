//! One world after the other, and what is left of one that fails.

use super::{Failure, World};
use crate::{Broken, Faults, Promise, Report, broken::caught, faults::reduced};

/// Plays in a new [`World`] for each of these seeds, and tells how each run ended.
///
/// `play` gets a world in which goes wrong what its seed decides. It starts engines and applications, has them
/// [run](World::run) and [finish](World::finish), and looks at what has become of them; if it panics, that is
/// [`Promise::NoPanic`], with the seed and what happened before. Of a run that fails whatever faults it does not need
/// are left out, so it is played some more times. Each time it must do the same.
///
/// See the [crate](crate#by-seed) for an example.
///
/// # Errors
/// The first run that fails, and [what to write](Failure::replay) to see it again.
pub fn run_seeds(
    seeds: impl IntoIterator<Item = u64>,
    play: impl Fn(&mut World) -> Result<Report, Box<Failure>>,
) -> Result<Vec<Report>, Box<Failure>> {
    let once = |seed, faults: &Faults| {
        let mut world = World::with_faults(seed, faults.clone());
        match caught(|| play(&mut world)) {
            Ok(outcome) => outcome,
            Err(said) => Err(world.failure(Broken::new(Promise::NoPanic, said))),
        }
    };
    let mut reports = Vec::new();
    for seed in seeds {
        let mut failure = match once(seed, &Faults::of_seed(seed)) {
            Ok(report) => {
                reports.push(report);
                continue;
            }
            Err(failure) => failure,
        };
        let promise = failure.broken.promise;
        reduced(Faults::of_seed(seed), Faults::without, |less| {
            match once(seed, less) {
                Err(again) if again.broken.promise == promise => {
                    failure = again;
                    true
                }
                _ => false,
            }
        });
        return Err(failure);
    }
    Ok(reports)
}
