//! Draws the guide's figures: `cargo run -p tofu-guide`.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR"));
    let performance = fs::read_to_string(guide.join("../PERFORMANCE.md"))?;
    let folder = guide.join("src/figures");
    fs::create_dir_all(&folder)?;
    for figure in tofu_guide::figures::all(&performance) {
        fs::write(folder.join(figure.file_name()), figure.svg)?;
    }
    Ok(())
}
