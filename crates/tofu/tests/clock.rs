//! The engine knows one clock, which only goes forward: the wall clock may be set as anyone likes. The trial
//! `clock-steps` of tofu-trials sets it.

use std::{fs, path::Path};

/// Lines of Rust code that name the wall clock.
fn lines_with_wall_clock(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("sources are here") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            lines_with_wall_clock(&path, found);
            continue;
        }
        let source = fs::read_to_string(&path).expect("text");
        let named = source.lines().zip(1..).filter(|(line, _)| {
            ["SystemTime", "UNIX_EPOCH", "CLOCK_REALTIME"]
                .iter()
                .any(|name| line.contains(name))
        });
        found.extend(named.map(|(line, nth)| format!("{}:{nth}: {line}", path.display())));
    }
}

#[test]
fn no_source_of_the_library_reads_the_wall_clock() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a directory");
    let mut found = Vec::new();
    for name in ["tofu", "tofu-proto"] {
        lines_with_wall_clock(&crates.join(name).join("src"), &mut found);
    }
    assert_eq!(found, [""; 0]);
}
