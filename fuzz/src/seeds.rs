//! Kept seeds, for tests without a fuzzer.

use std::{fs, panic, path::Path};

/// Checks all seeds of a target, and says which one fails.
pub fn replay(target: &str, check: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let seeds = root.join(target);
    let mut paths: Vec<_> = fs::read_dir(&seeds)
        .expect("the seeds are in the repository")
        .map(|seed| seed.expect("it can be listed").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 5, "{} in {}", paths.len(), seeds.display());
    for path in paths {
        let data = fs::read(&path).expect("it can be read");
        let held = panic::catch_unwind(|| check(&data));
        assert!(held.is_ok(), "{} fails, see above", path.display());
    }
}
