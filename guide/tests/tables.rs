//! Tables that have a row for everything that the library knows, and no other.

mod support;

use std::collections::BTreeSet;

use support::{chapters, first_cells, read, root};
use tofu::{Metrics, Status};

fn chapter(name: &str) -> String {
    read(&chapters().join(name))
}

fn source(path: &str) -> String {
    read(&root().join("crates").join(path))
}

/// The names in a column, which stand between backticks.
fn told(page: &str, heading: &str, column: usize) -> BTreeSet<String> {
    let cells = first_cells(page, heading, column);
    let names: BTreeSet<_> = cells
        .iter()
        .map(|cell| cell.trim_matches('`').to_owned())
        .collect();
    assert_eq!(
        names.len(),
        cells.len(),
        "a row stands twice below {heading}"
    );
    names
}

/// The variants of an enum in a source.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let start = format!("pub enum {name} {{\n");
    let (_, body) = source.split_once(&start).expect("the enum");
    let (body, _) = body.split_once("\n}").expect("its end");
    body.lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .map(|line| {
            line.chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect()
        })
        .collect()
}

#[test]
fn every_status_has_a_row_with_its_number() {
    let page = chapter("errors.md");
    let rows: Vec<_> = first_cells(&page, "## Statuses", 0)
        .into_iter()
        .zip(first_cells(&page, "## Statuses", 1))
        .map(|(code, name)| (code.to_owned(), name.to_owned()))
        .collect();
    let known: Vec<_> = (0..=u8::MAX)
        .filter_map(|code| {
            let name = Status::from_code(code).name()?;
            Some((code.to_string(), format!("`{name}`")))
        })
        .collect();
    assert_eq!(rows, known);
}

#[test]
fn every_refusal_and_every_violation_has_a_row() {
    let (page, source) = (chapter("errors.md"), source("tofu-proto/src/error.rs"));
    for (heading, name) in [("## Refusals", "Refusal"), ("## Violations", "Violation")] {
        assert_eq!(told(&page, heading, 0), variants(&source, name));
    }
}

#[test]
fn every_way_for_a_call_to_have_no_answer_has_a_row() {
    let page = chapter("errors.md");
    let known = variants(&source("tofu/src/channel_group/call.rs"), "CallError");
    assert_eq!(told(&page, "## When a call has no answer", 0), known);
}

#[test]
fn every_event_has_a_row() {
    let page = chapter("thinking.md");
    let known = variants(&source("tofu/src/event.rs"), "Event");
    assert_eq!(told(&page, "## An event says who speaks", 0), known);
}

#[test]
fn every_option_has_a_row() {
    let source = source("tofu/src/options.rs");
    let methods = source.split("    pub fn ").skip(1).filter_map(|method| {
        let (name, rest) = method.split_once(['(', '<'])?;
        let is_option = rest.split('{').next()?.contains("mut self");
        is_option.then(|| name.to_owned())
    });
    let options: BTreeSet<_> = methods.collect();
    assert_eq!(told(&chapter("operations.md"), "## Limits", 0), options);
}

#[test]
fn every_metric_has_a_row() {
    let fields = format!("{:?}", Metrics::default());
    let known: BTreeSet<_> = fields
        .split(['{', ','])
        .filter_map(|field| Some(field.split_once(':')?.0.trim().to_owned()))
        .collect();
    assert_eq!(told(&chapter("operations.md"), "## Metrics", 0), known);
}
