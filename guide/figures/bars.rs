//! Bars of the first table in PERFORMANCE.md.

use std::fmt::Write as _;

use super::{Figure, escaped, framed};

const WIDTH: u32 = 460;
const LABEL: u32 = 96;
const ROW: u32 = 20;

struct Chart {
    name: &'static str,
    title: &'static str,
    /// The row of the table, by its first words.
    row: &'static str,
    unit: &'static str,
}

const ALL: &[Chart] = &[
    Chart {
        name: "bars-round-trip",
        title: "Round trip of 64 bytes, microseconds: shorter is better",
        row: "round trip p50, split",
        unit: "us",
    },
    Chart {
        name: "bars-one-way",
        title: "One way, 64 bytes, million messages a second: longer is better",
        row: "one way 64 B",
        unit: "M/s",
    },
    Chart {
        name: "bars-in-flight",
        title: "64 requests in flight, million a second: longer is better",
        row: "64 in flight",
        unit: "M/s",
    },
];

pub(super) fn draw_all(performance: &str) -> impl Iterator<Item = Figure> {
    ALL.iter().map(move |chart| draw(chart, performance))
}

fn draw(chart: &Chart, performance: &str) -> Figure {
    let mut svg = String::new();
    let mut y = 4;
    for (transport, bars) in rows(performance, chart.row) {
        let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        y += 18;
        let _ = writeln!(
            svg,
            "<text class=\"name start\" x=\"4\" y=\"{y}\">{transport}</text>"
        );
        y += 6;
        for bar in bars {
            let len = bar.value / longest * f64::from(WIDTH - LABEL - 80);
            let end = f64::from(LABEL) + len + 5.0;
            let class = if bar.name == "tofu" { "bar own" } else { "bar" };
            let (label, base) = (LABEL - 6, y + 14);
            let name = escaped(&bar.name);
            let _ = writeln!(
                svg,
                "<text class=\"said end\" x=\"{label}\" y=\"{base}\">{name}</text>\n\
                 <rect class=\"{class}\" x=\"{LABEL}\" y=\"{top}\" width=\"{len:.1}\" height=\"14\"/>\n\
                 <text class=\"said start\" x=\"{end:.1}\" y=\"{base}\">{value} {unit}</text>",
                top = y + 3,
                value = bar.written,
                unit = chart.unit,
            );
            y += ROW;
        }
    }
    Figure {
        name: chart.name,
        svg: framed(chart.title, WIDTH, y + 6, &svg),
    }
}

struct Bar {
    name: String,
    value: f64,
    written: String,
}

/// The bars of a row of the table, for each transport.
fn rows(performance: &str, first_words: &str) -> Vec<(String, Vec<Bar>)> {
    let table: Vec<Vec<&str>> = performance
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|row| row.split('|').map(str::trim).collect())
        .collect();
    let heads = table
        .iter()
        .find(|row| row.get(2) == Some(&"tofu"))
        .expect("a table with a column for tofu");
    let place = table
        .iter()
        .position(|row| row[0].starts_with(first_words))
        .unwrap_or_else(|| panic!("PERFORMANCE.md has no row {first_words:?}"));
    table[place..place + 2]
        .iter()
        .map(|row| (row[1].to_owned(), bars(heads, row)))
        .collect()
}

/// The figures of a row: of all contenders, but not twice of raw sockets.
fn bars(heads: &[&str], row: &[&str]) -> Vec<Bar> {
    let cells = heads.iter().zip(row).skip(2);
    cells
        .filter(|(head, _)| **head != "best raw")
        .map(|(head, cell)| {
            let written: String = cell
                .chars()
                .skip_while(|c| *c == '*')
                .take_while(|c| c.is_ascii_digit() || *c == '.')
                .collect();
            let value = written
                .parse()
                .unwrap_or_else(|_| panic!("{cell} is no figure"));
            let (name, _) = head.split_once(',').unwrap_or((head, ""));
            Bar {
                name: name.to_owned(),
                value,
                written,
            }
        })
        .collect()
}
