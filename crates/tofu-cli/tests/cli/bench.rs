//! `bench` measures what it is asked to, says so in every form, and leaves nothing behind.

use std::{fs, os::unix::process::CommandExt, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::tool::{Done, Running, command, finish, first_line, keys, run, signal, tofucat};

/// The bench, and the directory that it takes for temporary files.
fn bench(arguments: &[&str]) -> (Command, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(["bench"]);
    command.args(arguments).env("TMPDIR", directory.path());
    (command, directory)
}

/// The server process that a line of the bench names.
#[track_caller]
fn process(line: &str) -> u32 {
    let (_, rest) = line.split_once("process ").expect("a process");
    let (digits, _) = rest.split_once(',').expect("an address behind it");
    digits.parse().unwrap()
}

#[track_caller]
fn expect_empty(directory: &Path) {
    let left: Vec<_> = fs::read_dir(directory).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// All lines of a table, their columns separated by one space.
fn lines(done: &Done) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    done.text().lines().map(words).collect()
}

#[track_caller]
fn expect_rows(table: &[String], title: &str, rows: &[&str], columns: usize) {
    let start = table.iter().position(|line| line.starts_with(title));
    let table = &table[start.expect(title) + 1..];
    for (line, row) in table.iter().zip(rows) {
        let figures = line.strip_prefix(row).expect(row).split_whitespace();
        let figures: Vec<f64> = figures
            .map(|figure| figure.replace(',', "").parse().unwrap())
            .collect();
        assert_eq!(figures.len(), columns, "{line}");
        let (cpu, figures) = figures.split_last().unwrap();
        assert!(*cpu >= 0.0, "{line}");
        assert!(figures.iter().all(|figure| *figure > 0.0), "{line}");
    }
    assert_eq!(table[rows.len()], "", "the table goes on");
}

#[test]
fn everything_is_in_the_table_and_drawn() {
    let (mut command, directory) = bench(&["--quick"]);
    let charts = tempfile::tempdir().unwrap();
    let file = charts.path().join("bench.svg");
    let done = run(command.arg("--svg").arg(&file), b"");
    done.expect_success();
    expect_empty(directory.path());
    let table = lines(&done);
    let title = "round trip p50 us p90 us p99 us p99.9 us CPU s/million";
    expect_rows(&table, title, &["tcp 64 B ", "uds 64 B "], 5);
    let one_way = [
        "tcp 64 B ",
        "uds 64 B ",
        "tcp 1 KiB ",
        "uds 1 KiB ",
        "tcp 60 KiB ",
        "uds 60 KiB ",
    ];
    expect_rows(&table, "one way messages/s MB/s CPU s/million", &one_way, 3);
    let title = "64 requests in flight requests/s CPU s/million";
    expect_rows(&table, title, &["tcp 64 B ", "uds 64 B "], 2);
    assert!(done.text().contains("\nmedians of 3 rounds of 0.25 s\n"));
    let servers = table.iter().filter(|line| line.contains(" process "));
    for server in servers {
        assert!(
            !signal(process(server), "0"),
            "outlived the bench: {server}"
        );
    }
    let svg = fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    let titles = ["Round trip", "One way", "64 requests in flight"];
    for wanted in titles.iter().chain(&["tcp", "uds", "p99.9", "60 KiB"]) {
        assert!(svg.contains(wanted), "{wanted:?} is missing in {svg}");
    }
    let left = fs::read_dir(charts.path()).unwrap().count();
    assert_eq!(left, 1, "more than the chart is left");
}

#[test]
fn every_row_is_an_object() {
    let (mut command, _directory) = bench(&["--json", "--quick", "--transport", "uds"]);
    let workloads = ["in-flight", "round-trip", "one-way-1kib"];
    let done = run(
        command.args(workloads.map(|name| format!("--workload={name}"))),
        b"",
    );
    done.expect_success();
    let objects = done.objects();
    let [server, round_trip, one_way, in_flight] = &*objects else {
        panic!("{objects:?}");
    };
    assert_eq!(server["event"], "server");
    assert_eq!(keys(server), ["address", "event", "process", "transport"]);
    let expect_keys = |object: &Value, workload: &str, figures: &[&str]| {
        assert_eq!(object["event"], "result");
        assert_eq!(object["workload"], workload);
        assert_eq!(object["transport"], "uds");
        assert_eq!(object["rounds"], 3);
        assert_eq!(object["busy_poll"], true);
        let mut wanted = vec![
            "event",
            "workload",
            "transport",
            "body_len",
            "rounds",
            "busy_poll",
        ];
        wanted.extend(figures);
        wanted.push("cpu_seconds_per_million_messages");
        wanted.sort_unstable();
        assert_eq!(keys(object), wanted);
        for figure in figures {
            assert!(object[*figure].as_f64() > Some(0.0), "{object}");
        }
    };
    let latency = ["p50_us", "p90_us", "p99_us", "p99_9_us"];
    expect_keys(round_trip, "round-trip", &latency);
    assert!(round_trip["p50_us"].as_f64() <= round_trip["p99_9_us"].as_f64());
    let rates = ["messages_per_second", "mb_per_second"];
    expect_keys(one_way, "one-way-1kib", &rates);
    assert_eq!(one_way["body_len"], 1024);
    expect_keys(
        in_flight,
        "in-flight",
        &["in_flight", "requests_per_second"],
    );
}

#[test]
fn only_what_is_chosen_is_measured() {
    let (mut command, _directory) = bench(&["--quick", "--no-poll", "--workload", "in-flight"]);
    let done = run(command.args(["--transport", "tcp"]), b"");
    done.expect_success();
    let text = done.text();
    assert!(text.contains("64 requests in flight") && text.contains("no busy poll"));
    for unwanted in ["uds", "round trip", "one way"] {
        assert!(!text.contains(unwanted), "{unwanted:?} is in {text}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for wrong in [
        ["bench", "tcp|127.0.0.1|0"].as_slice(),
        &["bench", "--transport", "pipe"],
        &["bench", "--workload", "one-way"],
        &["bench", "--svg"],
        &["bench-server"],
    ] {
        tofucat(wrong).expect_code(2);
    }
}

#[test]
fn a_chart_that_cannot_be_written_is_an_error_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    let nowhere = format!("{directory}/nowhere/bench.svg");
    for (file, why) in [(&*nowhere, "No such file"), (directory, "is a directory")] {
        let done = tofucat(["bench", "--svg", file]);
        done.expect_error(file, why);
        assert_eq!(done.text(), "");
    }
}

#[test]
fn ctrl_c_ends_the_bench_and_its_servers() {
    let (mut command, directory) = bench(&[]);
    let charts = tempfile::tempdir().unwrap();
    let file = charts.path().join("bench.svg");
    command.arg("--svg").arg(&file).process_group(0);
    let running = Running::spawn(&mut command);
    let servers = [running.line(), running.line()].map(|line| process(&line));
    // As a terminal does it: to the whole process group.
    let group = format!("-{}", running.id());
    let kill = Command::new("kill").args(["-INT", "--", &group]).status();
    assert!(kill.unwrap().success());
    let done = running.end();
    done.expect_code(130);
    assert_eq!((done.text(), &*done.stderr), ("", ""));
    for server in servers {
        assert!(!signal(server, "0"), "the server outlived the bench");
    }
    expect_empty(directory.path());
    expect_empty(charts.path());
}

#[test]
fn a_server_that_dies_is_an_error() {
    for (position, transport) in ["tcp", "uds"].into_iter().enumerate() {
        let (mut command, directory) = bench(&[]);
        let running = Running::spawn(&mut command);
        let servers = [running.line(), running.line()].map(|line| process(&line));
        let server = servers[position];
        signal(server, "KILL");
        let why = format!("the {transport} server, process {server}, has died: signal: 9");
        running.end().expect_error("bench", &why);
        let survivor = servers[1 - position];
        assert!(
            !signal(survivor, "0"),
            "the other server outlived the bench"
        );
        expect_empty(directory.path());
    }
}

#[test]
fn a_server_that_hangs_is_an_error() {
    let (mut command, _directory) = bench(&["--transport", "uds"]);
    let running = Running::spawn(&mut command);
    let server = process(&running.line());
    signal(server, "STOP");
    let why = format!("the uds server, process {server}: silent for 5 s");
    running.end().expect_error("bench", &why);
    assert!(!signal(server, "0"), "the server outlived the bench");
}

#[test]
fn servers_end_when_the_bench_is_killed() {
    let (mut command, _directory) = bench(&[]);
    let running = Running::spawn(&mut command);
    running.line();
    signal(running.id(), "KILL");
    // The servers have inherited the standard error, which ends when all are gone.
    assert_eq!(running.end().status.code(), None);
}

#[test]
fn a_closed_pipe_ends_the_bench_quietly() {
    let (mut command, directory) = bench(&[]);
    let (child, line, stdout) = first_line(&mut command);
    assert!(line.starts_with("the tcp server, process "), "{line}");
    drop(stdout);
    finish(child).expect_success();
    expect_empty(directory.path());
}
