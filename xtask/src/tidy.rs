//! `cargo xtask tidy`: the rules of the workspace that no compiler checks.

mod arrows;
mod calls;
mod edge_table;
mod files;
mod manifests;
mod migrations;
mod packages;
mod walls;
mod words;

use std::path::Path;

use anyhow::{Result, bail};

use crate::step::root;

/// Check who uses whom, and the rules for files that no compiler checks.
#[derive(clap::Args)]
pub(crate) struct Tidy {}

impl Tidy {
    pub(crate) fn run(&self) -> Result<()> {
        let problems = problems(&root())?;
        for problem in &problems {
            println!("{problem}");
        }
        match problems.len() {
            0 => {
                println!("every rule is kept");
                Ok(())
            }
            1 => bail!("1 rule is broken"),
            count => bail!("{count} rules are broken"),
        }
    }
}

/// Every broken rule as a sentence that begins with what breaks it.
fn problems(root: &Path) -> Result<Vec<String>> {
    let packages = packages::from_metadata(&packages::metadata(root)?)?;
    let files = files::all(root)?;
    Ok([
        arrows::check(&packages),
        walls::check(&packages),
        manifests::check(root, &packages)?,
        files::check(root, &files)?,
        words::check(root, &files)?,
        calls::check(root, &files),
        edge_table::check(root, &files)?,
        migrations::check(root)?,
    ]
    .concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_its_rules() {
        let problems = problems(&root()).unwrap();
        assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    }
}
