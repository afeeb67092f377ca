//! The program around the simulator.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tofu-sim"))
        .args(args)
        .output()
        .expect("the program runs")
}

#[test]
fn many_seeds_are_summed_up() {
    for (args, told) in [
        (
            &["--seeds", "5", "--start", "10"][..],
            "channel: channel_closed",
        ),
        (&["--pair", "--seeds", "5"], "client: channel_closed"),
    ] {
        let output = run(args);
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{out}");
        assert!(out.starts_with("5 seeds, "), "{out}");
        assert!(out.contains(told), "{out}");
    }
}

#[test]
fn one_seed_is_told_step_by_step() {
    for (args, told) in [
        (
            &["--seed", "10", "--trace"][..],
            "posts HelloRequest on channel",
        ),
        (
            &["--pair", "--seed", "10", "--trace"],
            "Client posts HelloRequest",
        ),
    ] {
        let output = run(args);
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{out}");
        assert!(out.contains(told), "{out}");
        assert!(out.contains("seed: 10,"), "{out}");
    }
}

#[test]
fn a_wrong_command_line_is_named() {
    for (args, told) in [
        (&["--sedes", "5"][..], "\"--sedes\" means nothing here"),
        (&["--seeds"], "--seeds needs a number, not \"\""),
        (&["--seed", "1", "--without", "luck"], "\"luck\" is none of"),
        (&[], "say either --seeds or --seed"),
        (&["--seeds", "1", "--seed", "1"], "say either"),
        (&["--seeds", "1", "--trace"], "--trace shows one run"),
        (&["--seed", "1", "--start", "1"], "--start is the first of"),
        (
            &["--pair", "--seed", "1", "--posts", "5"],
            "--posts is for engines",
        ),
        (
            &["--pair", "--seeds", "1", "--without", "resets"],
            "--without is for engines",
        ),
    ] {
        let output = run(args);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.starts_with(told), "{err}");
    }
}
