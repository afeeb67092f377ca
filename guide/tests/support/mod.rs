//! Reading pages.

#![allow(dead_code, reason = "each test uses some of it")]

use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn chapters() -> PathBuf {
    root().join("guide/src")
}

/// The text of a page, with what mdBook includes in it.
pub(crate) fn read(path: &Path) -> String {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().fold(String::new(), |page, line| {
        let include = line
            .strip_prefix("{{#include ")
            .and_then(|rest| rest.strip_suffix("}}"));
        let shown = match include {
            Some(file) => read(&path.parent().expect("a folder").join(file)),
            None => format!("{line}\n"),
        };
        page + &shown
    })
}

/// The Markdown files in a folder.
pub(crate) fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut pages: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    pages.sort();
    assert!(!pages.is_empty());
    pages
}

/// The chapters, recipes included.
pub(crate) fn all_chapters() -> Vec<PathBuf> {
    [chapters(), chapters().join("recipes")]
        .iter()
        .flat_map(|folder| pages(folder))
        .collect()
}

/// What the summary calls a chapter.
pub(crate) fn name_of(chapter: &Path) -> String {
    let name = chapter.strip_prefix(chapters()).expect("in the guide");
    name.to_string_lossy().into_owned()
}

/// The lines of a page that are not code.
pub(crate) fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// The first cells of the rows of the table below a heading.
pub(crate) fn first_cells<'a>(page: &'a str, heading: &str, column: usize) -> Vec<&'a str> {
    let mut lines = page.lines().skip_while(|line| *line != heading).skip(1);
    let cells: Vec<_> = lines
        .by_ref()
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .skip(2)
        .filter_map(|row| row.split(" | ").nth(column))
        .collect();
    assert!(!cells.is_empty(), "no table below {heading:?}");
    cells
}
