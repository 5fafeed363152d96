//! The reference page, made from the table.

use std::fmt::{self, Write as _};

use crate::{
    names::{RESERVED, RESERVED_PREFIXES},
    setting::{DefaultValue, Entry, PREFIX},
    table::GROUPS,
};

const INTRODUCTION: &str = "\
<!-- Generated from the table in crates/certctl-settings. Do not edit: run `cargo xtask settings-doc`. -->

# Settings

Every setting has one name and can be given in four places, the stronger first:

1. a flag of the program: `--server-port 8443`;
2. the environment: `CERTCTL_SERVER_PORT=8443`;
3. a TOML file, named by `--config FILE` or `CERTCTL_CONFIG`: `server_port = 8443`;
4. the default.

A setting marked *secret* is never printed.
Its value can also be put in a file that `<NAME>_FILE` names; a line break at the end of the file is dropped.
The file is read at start only.

A value that cannot be read stops the start, and every such value is reported at once.
A name that starts with `CERTCTL_` and is not known is warned about.
An empty value means unset where a setting has no default, and is refused where it has one.
`certctl-server --check-config` prints what is in force and where each value came from, and ends with status 0, or 1 when something is wrong.

Durations are whole amounts with units, the greatest first: `300ms`, `10s`, `5m`, `7h30m`.
Truth values are `true`, `1`, `yes` and `false`, `0`, `no`, in any case.
Lists are comma separated; in a TOML file they can be arrays.
";

/// The reference page of all settings, in Markdown.
///
/// `docs/reference/settings.md` must equal it; a test of this crate compares them.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = String::new();
    write_page(&mut page).expect("writing to a String cannot fail");
    page
}

fn write_page(page: &mut String) -> fmt::Result {
    page.push_str(INTRODUCTION);
    for group in GROUPS {
        writeln!(page, "\n## {}\n", group.title)?;
        writeln!(
            page,
            "| Setting | Default | Accepted | Read by | Meaning |\n|---|---|---|---|---|"
        )?;
        for entry in group.entries {
            write_row(page, *entry)?;
        }
    }
    writeln!(page, "\n## Names without effect\n")?;
    writeln!(page, "These names belong to parts that are not built yet.")?;
    writeln!(
        page,
        "They are accepted without a warning and change nothing; `--check-config` lists those that are given.\n"
    )?;
    for prefix in RESERVED_PREFIXES {
        writeln!(page, "- `{PREFIX}{prefix}*`")?;
    }
    for name in RESERVED {
        writeln!(page, "- `{PREFIX}{name}`")?;
    }
    Ok(())
}

fn write_row(page: &mut String, entry: &dyn Entry) -> fmt::Result {
    let default = match entry.default() {
        DefaultValue::Unset => "–".to_owned(),
        DefaultValue::Text(text) => format!("`{text}`"),
        DefaultValue::Derived(words) => words.to_owned(),
    };
    let expected = if entry.is_secret() {
        format!("{} (*secret*)", entry.expected())
    } else {
        entry.expected()
    };
    writeln!(
        page,
        "| `{}` | {default} | {} | {} | {} |",
        entry.variable(),
        // An unescaped bar ends a cell.
        expected.replace('|', "\\|"),
        entry.programs().names().join(", "),
        entry.doc()
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::reference_markdown;

    #[test]
    fn the_page_in_the_repository_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/settings.md");
        let page = fs::read_to_string(&path).unwrap_or_default();
        let first_difference = page
            .lines()
            .zip(reference_markdown().lines().map(str::to_owned))
            .find(|(old, new)| old != new);
        assert!(
            page == reference_markdown(),
            "docs/reference/settings.md is out of date; run `cargo xtask settings-doc`. First difference: {first_difference:?}"
        );
    }

    #[test]
    fn every_row_is_one_line() {
        let page = reference_markdown();
        for entry in crate::table::entries() {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", entry.variable())))
                .expect("a row");
            assert!(row.ends_with(&format!("| {} |", entry.doc())), "{row}");
            assert!(entry.doc().ends_with('.'), "{row}");
        }
    }
}
