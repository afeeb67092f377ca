//! SECURITY.md says what is so: the tests that it names are there, and its limits are the engine's.

use std::{collections::HashSet, fs, path::PathBuf};

use tofu::{Metrics, Options};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    fs::read_to_string(root().join("SECURITY.md")).expect("the page")
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of the table of limits: its cells.
fn limits(page: &str) -> Vec<Vec<&str>> {
    let table = page.split("## Limits").nth(1).expect("the last chapter");
    let rows: Vec<Vec<_>> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .skip(2)
        .collect();
    assert!(rows.iter().all(|row| row.len() == 4), "{rows:?}");
    rows
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let page = page();
    let mut named = 0;
    for (file, test) in quoted(&page).filter_map(|words| words.split_once(".rs: ")) {
        let path = match file.split_once('/') {
            Some(("recipes", _)) => format!("{file}.rs"),
            Some(_) => format!("crates/tofu/{file}.rs"),
            None => format!("crates/tofu/tests/{file}.rs"),
        };
        let source = fs::read_to_string(root().join(&path)).expect(&path);
        let place = source.find(&format!("fn {test}()"));
        let before = &source[..place.unwrap_or_else(|| panic!("no {test} in {path}"))];
        let attributes = before.rsplit("\n\n").next().expect("what stands above it");
        assert!(attributes.contains("#[test]"), "{test} is no test");
        named += 1;
    }
    assert!(named > 40, "{named}");
}

#[test]
fn every_option_is_in_the_table_with_its_default() {
    let page = page();
    let rows = limits(&page);
    let source = include_str!("../src/options.rs");
    let methods = source.split("    pub fn ").skip(1).filter_map(|method| {
        let (name, rest) = method.split_once(['(', '<'])?;
        rest.split('{')
            .next()?
            .contains("mut self")
            .then_some(format!("`{name}`"))
    });
    let options: HashSet<_> = methods.collect();
    let told: HashSet<_> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(told, options);

    let defaults = format!("{:?}", Options::default());
    for (option, written, said) in [
        ("allow_networks", "networks: None", "everybody"),
        ("allow_users", "users: None", "everybody"),
        ("uds_mode", "uds_mode: None", "umask"),
        ("uds_owner", "uds_uid: None, uds_gid: None", "the process's"),
        ("channels_max", "channels_max: 65534", "65,534"),
        ("half_open_max", "half_open_max: 1024", "1,024"),
        ("hello_timeout", "hello: 10s", "10 s"),
        ("frame_timeout", "frame: 30s", "30 s"),
        ("bye_timeout", "bye: 5s", "5 s"),
        ("connect_timeout", "connect: 30s", "30 s"),
        ("drain_timeout", "drain_timeout: 1s", "1 s"),
        (
            "pool_messages",
            "pool_messages_initial: 64, pool_messages_max: 1024",
            "1,024",
        ),
        ("queue_bytes", "channel_queue_bytes_max: 8388608", "8 MiB"),
        (
            "queue_bytes",
            "engine_queue_bytes_max: 268435456",
            "256 MiB",
        ),
        ("backlog", "backlog: 1024", "1,024"),
        ("reuse_port", "reuse_port: false", "off"),
        ("busy_poll", "busy_poll: 50µs", "50 us"),
    ] {
        assert!(defaults.contains(written), "{defaults} has {written}");
        let row = rows.iter().find(|row| row[0] == format!("`{option}`"));
        let default = row.expect(option)[1];
        assert!(default.contains(said), "{option}: {default} says {said}");
    }
}

#[test]
fn every_counter_in_the_table_is_counted() {
    let page = page();
    let counted = format!("{:?}", Metrics::default());
    for row in limits(&page) {
        assert!(row[3] == "-" || row[3].contains('`'), "{row:?}");
        for counter in quoted(row[3]) {
            assert!(counted.contains(&format!("{counter}: ")), "{counter}");
        }
    }
}
