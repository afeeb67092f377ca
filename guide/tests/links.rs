//! Links lead somewhere, chapters are listed, and what they show is current.

mod support;

use std::{collections::HashSet, fs, path::Path};

use support::{all_chapters, chapters, name_of, pages, prose, read, root};

/// Where the links of a page point to.
fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        // What is quoted is no link.
        let spoken: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let targets = spoken.split("](").skip(1);
        found.extend(targets.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    found
}

/// What a heading is called in a link, by mdBook and by the usual forges.
fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

fn anchors(page: &str) -> HashSet<String> {
    prose(page)
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

fn check(path: &Path, page: &str, inside: &Path) -> usize {
    let folder = path.parent().expect("a folder");
    let mut checked = 0;
    for link in links(page) {
        if link.starts_with("https://") {
            continue;
        }
        let named = format!("{}: {link}", path.display());
        let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
        let target = match file {
            "" => path.to_owned(),
            file => folder.join(file),
        };
        assert!(target.exists(), "{named} leads nowhere");
        let target_path = target.canonicalize().expect("it exists");
        let inside = inside.canonicalize().expect("it exists");
        assert!(target_path.starts_with(inside), "{named} leaves the book");
        if !fragment.is_empty() {
            let there = anchors(&read(&target));
            assert!(
                there.contains(fragment),
                "{named}: no such heading in {there:?}"
            );
        }
        checked += 1;
    }
    checked
}

#[test]
fn every_link_of_the_guide_leads_somewhere_in_the_guide() {
    let folder = chapters();
    let mut checked = 0;
    for path in all_chapters() {
        checked += check(&path, &read(&path), &folder);
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn every_link_of_the_pages_beside_the_code_leads_somewhere() {
    let mut checked = 0;
    for path in pages(&root()) {
        checked += check(&path, &read(&path), &root());
    }
    assert!(checked > 10, "{checked}");
}

#[test]
fn every_chapter_is_listed() {
    let summary = read(&chapters().join("SUMMARY.md"));
    let listed: HashSet<_> = links(&summary).into_iter().collect();
    for path in all_chapters() {
        let name = name_of(&path);
        assert!(
            name == "SUMMARY.md" || listed.contains(&name),
            "{name} is in no list"
        );
    }
}

#[test]
fn every_chapter_with_rust_in_it_is_run() {
    for path in all_chapters() {
        let page = fs::read_to_string(&path).expect("a chapter");
        let name = name_of(&path);
        let is_run = tofu_guide::CHAPTERS.contains(&name.as_str());
        assert!(is_run || !page.contains("\n```rust\n"), "{name} is not run");
    }
}

#[test]
fn every_figure_is_drawn_from_what_is_there_now() {
    let performance = read(&root().join("PERFORMANCE.md"));
    for figure in tofu_guide::figures::all(&performance) {
        let path = chapters().join("figures").join(figure.file_name());
        let drawn = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            drawn == figure.svg,
            "{} is old: cargo run -p tofu-guide",
            path.display()
        );
    }
}
