//! Recipes for tofu. Each file beside this one is one idea: a program to run, with its test over TCP and over a
//! Unix domain socket, and a page of the guide.
//!
//! ```sh
//! cargo run -p tofu-recipes --example request_response
//! cargo run -p tofu-recipes --example request_response uds:///tmp/recipe.sock
//! cargo test -p tofu-recipes
//! ```

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    fn names(dir: &Path, extension: &str) -> BTreeSet<String> {
        let files = fs::read_dir(dir).expect("a directory");
        let paths = files.map(|file| file.expect("readable").path());
        paths
            .filter(|path| path.extension().is_some_and(|it| it == extension))
            .map(|path| path.file_stem().expect("a name").to_string_lossy().into())
            .filter(|name| name != "lib" && name != "index")
            .collect()
    }

    /// A recipe that is not in the manifest would neither be built nor tested.
    #[test]
    fn each_recipe_is_tested_and_is_a_page_of_the_guide() {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR"));
        let manifest = fs::read_to_string(recipes.join("Cargo.toml")).expect("the manifest");
        let guide = recipes.join("../guide/src");
        let summary = fs::read_to_string(guide.join("SUMMARY.md")).expect("the summary");
        let files = names(recipes, "rs");
        assert!(!files.is_empty());
        for name in &files {
            let entry = format!("name = \"{name}\"\npath = \"{name}.rs\"\ntest = true\n");
            assert!(manifest.contains(&entry), "{name} is not in Cargo.toml");
            let page = format!("(recipes/{name}.md)");
            assert!(summary.contains(&page), "{name} is not in SUMMARY.md");
            let source = fs::read_to_string(recipes.join(format!("{name}.rs"))).expect("text");
            assert!(source.contains("#[test]"), "{name} has no test");
            assert!(
                source.contains("over_both"),
                "{name} is not tested over both"
            );
            let page = guide.join(format!("recipes/{name}.md"));
            let page = fs::read_to_string(page).expect("its page");
            let included = format!("{{{{#include ../../../recipes/{name}.rs}}}}");
            assert!(page.contains(&included), "the page of {name} shows another");
        }
        assert_eq!(files, names(&guide.join("recipes"), "md"));
    }
}
