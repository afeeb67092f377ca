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
    let output = run(&["--seeds", "5", "--start", "10"]);
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}");
    assert!(out.starts_with("5 seeds, "), "{out}");
    assert!(out.contains("client: channel_closed"), "{out}");
}

#[test]
fn one_seed_is_told_step_by_step() {
    let output = run(&["--seed", "10", "--trace"]);
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}");
    assert!(out.contains("Client posts HelloRequest"), "{out}");
    assert!(out.contains("seed: 10,"), "{out}");
}

#[test]
fn a_wrong_command_line_is_named() {
    for (args, told) in [
        (&["--sedes", "5"][..], "\"--sedes\" means nothing here"),
        (&["--seeds"], "--seeds needs a number, not \"\""),
        (&[], "say either --seeds or --seed"),
    ] {
        let output = run(args);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.starts_with(told), "{err}");
    }
}
