//! Sequence diagrams: who says what to whom, from top to bottom.

use std::fmt::Write as _;

use super::{Figure, escaped, framed};

const LANE_WIDTH: u32 = 210;
const ROW: u32 = 36;
const HEAD: u32 = 30;

/// A conversation.
pub(super) struct Sequence {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Who takes part, from left to right.
    pub(super) lanes: &'static [&'static str],
    pub(super) steps: &'static [Step],
}

/// What happens, one below the other. Lanes are counted from 0.
pub(super) enum Step {
    /// A message that travels, or an order to one's own engine.
    Says(usize, usize, &'static str),
    /// A message that was sent and does not arrive.
    Lost(usize, usize, &'static str),
    /// What one's own engine tells, or an application is given: it does not travel.
    Told(usize, usize, &'static str),
    /// Two that pass each other between the first two lanes: the left one's, the right one's.
    Cross(&'static str, &'static str),
    /// What happens at a lane.
    Note(usize, &'static str),
}

pub(super) fn draw(sequence: &Sequence) -> Figure {
    let lanes = u32::try_from(sequence.lanes.len()).expect("a few lanes");
    let width = lanes * LANE_WIDTH + 20;
    let rows: u32 = sequence.steps.iter().map(rows_of).sum();
    let height = HEAD + rows * ROW + 26;
    let mut svg = String::new();
    for (lane, name) in sequence.lanes.iter().enumerate() {
        let x = middle(lane);
        line(&mut svg, (x, HEAD), (x, height - 6), "life");
        let left = x - 66;
        let _ = writeln!(
            svg,
            "<rect class=\"head\" x=\"{left}\" y=\"3\" width=\"132\" height=\"26\" rx=\"5\"/>"
        );
        text(&mut svg, x, 21, "name", name);
    }
    let mut y = HEAD + 4;
    for step in sequence.steps {
        y += rows_of(step) * ROW;
        match *step {
            Step::Says(from, to, said) => arrow(&mut svg, from, to, y, "says", said),
            Step::Told(from, to, said) => arrow(&mut svg, from, to, y, "told", said),
            Step::Lost(from, to, said) => lost(&mut svg, from, to, y, said),
            Step::Cross(left, right) => cross(&mut svg, y, left, right),
            Step::Note(lane, said) => note(&mut svg, middle(lane), y, said),
        }
    }
    Figure {
        name: sequence.name,
        svg: framed(&escaped(sequence.title), width, height, &svg),
    }
}

fn rows_of(step: &Step) -> u32 {
    match step {
        Step::Cross(..) => 2,
        _ => 1,
    }
}

fn middle(lane: usize) -> u32 {
    let lane = u32::try_from(lane).expect("a few lanes");
    10 + LANE_WIDTH / 2 + lane * LANE_WIDTH
}

fn line(svg: &mut String, from: (u32, u32), to: (u32, u32), class: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>"
    );
}

fn text(svg: &mut String, x: u32, y: u32, class: &str, said: &str) {
    let said = escaped(said);
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{said}</text>"
    );
}

/// The head of an arrow that ends at `x`, from the left or from the right.
fn head(svg: &mut String, x: u32, y: u32, from_left: bool) {
    let back = if from_left { x - 9 } else { x + 9 };
    let (above, below) = (y - 5, y + 5);
    let _ = writeln!(
        svg,
        "<polygon class=\"tip\" points=\"{x},{y} {back},{above} {back},{below}\"/>"
    );
}

fn arrow(svg: &mut String, from: usize, to: usize, y: u32, class: &str, said: &str) {
    let (start, end) = (middle(from), middle(to));
    let (near, tip) = if start < end {
        (start + 2, end - 2)
    } else {
        (start - 2, end + 2)
    };
    line(svg, (near, y), (tip, y), class);
    head(svg, tip, y, start < end);
    text(svg, u32::midpoint(start, end), y - 6, "said", said);
}

fn lost(svg: &mut String, from: usize, to: usize, y: u32, said: &str) {
    let (start, end) = (middle(from), middle(to));
    let stop = if start < end { end - 50 } else { end + 50 };
    line(svg, (start, y), (stop, y), "says");
    text(svg, u32::midpoint(start, stop), y - 6, "said", said);
    text(svg, stop, y + 7, "stop", "×");
}

fn cross(svg: &mut String, y: u32, left: &str, right: &str) {
    let (one, two) = (middle(0), middle(1));
    let top = y - ROW - 4;
    line(svg, (one + 2, top), (two - 2, y), "says");
    line(svg, (two - 2, top), (one + 2, y), "says");
    head(svg, two - 2, y, true);
    head(svg, one + 2, y, false);
    let _ = writeln!(
        svg,
        "<text class=\"said start\" x=\"{}\" y=\"{}\">{left}</text>",
        one + 8,
        top - 4
    );
    let _ = writeln!(
        svg,
        "<text class=\"said end\" x=\"{}\" y=\"{}\">{right}</text>",
        two - 8,
        top - 4
    );
}

fn note(svg: &mut String, x: u32, y: u32, said: &str) {
    let width = u32::try_from(said.chars().count()).expect("a few words") * 7 + 14;
    let left = x.saturating_sub(width / 2);
    let top = y - 19;
    let _ = writeln!(
        svg,
        "<rect class=\"note\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"25\" rx=\"3\"/>"
    );
    text(svg, x, y - 2, "said", said);
}
