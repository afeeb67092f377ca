//! The checkers can fail: whatever a broken stream or a careless driver does is caught.

use tofu_proto::Side;
use tofu_sim::pair::{Broken, Failure, Report, Sabotage, Simulation};

const SEEDS: u64 = 60;
const SIDES: [Side; 2] = [Side::Client, Side::Server];

fn gentle_seeds() -> impl Iterator<Item = u64> {
    (0..SEEDS).filter(|&seed| Simulation::new(seed).plan().is_gentle())
}

fn report(seed: u64) -> Report {
    Simulation::new(seed)
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"))
}

fn failure(seed: u64, side: Side, sabotage: Sabotage) -> Box<Failure> {
    match Simulation::new(seed).with_sabotage(side, sabotage).run() {
        Err(failure) => failure,
        Ok(_) => panic!("{side:?} commits {sabotage:?} in seed {seed}, and nobody sees it"),
    }
}

#[test]
fn a_missing_or_doubled_byte_is_caught_anywhere() {
    for seed in gentle_seeds() {
        for place in [0, 2, 13, 15] {
            for side in SIDES {
                failure(seed, side, Sabotage::DropByte(place));
                failure(seed, side, Sabotage::DuplicateByte(place));
            }
        }
    }
}

/// Bytes 20 and 21 are in the first text header of the HelloRequest, so that lengths stay right and
/// nothing but the content tells.
#[test]
fn swapped_bytes_are_caught_by_content_alone() {
    for seed in gentle_seeds() {
        let broken = failure(seed, Side::Client, Sabotage::SwapBytes(20)).broken;
        assert!(
            matches!(
                broken,
                Broken::Altered {
                    from: Side::Client,
                    index: 0,
                    ..
                }
            ),
            "{broken}"
        );
    }
}

#[test]
fn a_panic_is_told_with_the_seed_and_what_happened() {
    for seed in gentle_seeds().take(3) {
        let failure = failure(seed, Side::Client, Sabotage::PanicAtByte(20));
        let told = failure.to_string();
        assert!(told.contains("it panicked: byte 20 passes"), "{told}");
        assert!(told.contains(&format!("--seed {seed} --trace")), "{told}");
        assert!(told.contains(" s  Client "), "{told}");
    }
}

#[test]
fn missing_doubled_and_swapped_frames_are_caught() {
    for seed in gentle_seeds() {
        for side in SIDES {
            failure(seed, side, Sabotage::DropFrame(0));
            failure(seed, side, Sabotage::DuplicateFrame(0));
            failure(seed, side, Sabotage::SwapFrames(0));
        }
    }
}

#[test]
fn what_does_not_come_back_once_is_caught() {
    let mut seen = 0;
    for seed in 0..SEEDS {
        if report(seed).returned == 0 {
            continue;
        }
        for sabotage in [Sabotage::DropReturned, Sabotage::DuplicateReturned] {
            for side in SIDES {
                let run = Simulation::new(seed).with_sabotage(side, sabotage).run();
                if let Err(failure) = run {
                    assert!(
                        matches!(failure.broken, Broken::WrongReturn { from, .. } if from == side),
                        "{failure}"
                    );
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

/// Why the side that answers a bye must wait for the other one to close.
#[test]
fn a_reset_that_overtakes_the_answer_to_a_bye_is_caught() {
    let mut caught = 0;
    for seed in gentle_seeds() {
        for side in SIDES {
            let run = Simulation::new(seed)
                .with_sabotage(side, Sabotage::HastyClose)
                .run();
            if let Err(failure) = run {
                assert!(
                    matches!(failure.broken, Broken::NotGraceful(..)),
                    "{failure}"
                );
                caught += 1;
            }
        }
    }
    assert!(caught > 0);
}

#[test]
fn a_failure_tells_how_to_see_it_again() {
    let told = failure(5, Side::Client, Sabotage::DropByte(0)).to_string();
    assert!(told.starts_with("seed 5: "), "{told}");
    assert!(
        told.contains("cargo run -p tofu-sim -- --pair --seed 5 --trace"),
        "{told}"
    );
    assert!(told.contains(" s  Client writes 1 bytes\n"), "{told}");
}
