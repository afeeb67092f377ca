//! The figures: conversations as sequence diagrams, and bars of the figures in PERFORMANCE.md.
//!
//! Each is an SVG that stands in the page itself (mdBook includes it), so that it takes the colour and the
//! font of the text around it, in whatever theme. `cargo run -p tofu-guide` draws them; a test says when
//! that was forgotten.

mod bars;
mod conversations;
mod sequence;

/// A figure, ready to be included in a chapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What its file is called, without the ending.
    pub name: &'static str,
    /// The figure.
    pub svg: String,
}

impl Figure {
    /// The name of its file.
    pub fn file_name(&self) -> String {
        format!("{}.svg", self.name)
    }
}

/// All figures. The bars are those of the table in `performance`, the text of PERFORMANCE.md.
///
/// # Panics
/// If `performance` has no such table.
pub fn all(performance: &str) -> Vec<Figure> {
    let mut figures: Vec<_> = conversations::ALL.iter().map(sequence::draw).collect();
    figures.extend(bars::draw_all(performance));
    figures
}

/// The frame of a figure: in the middle of the page, and no wider than it.
fn framed(title: &str, width: u32, height: u32, content: &str) -> String {
    format!(
        "<figure class=\"drawn\">\n\
         <svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" role=\"img\" aria-label=\"{title}\">\n\
         {content}</svg>\n\
         <figcaption>{title}</figcaption>\n\
         </figure>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
