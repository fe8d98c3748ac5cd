//! The manual pages and the completions, made from the definitions of the command line and of the settings.

#[path = "../../contrib/manual/command.rs"]
mod command;

use std::io;

use postmapd_follow::cli;
use postmapd_follow::settings::definitions::{ALL, QUERIES};

use command::{Manual, roff};

/// A file: its path below contrib/follow, and what it should hold.
pub(crate) type Page = (String, Vec<u8>);

/// All of them.
pub(crate) fn all() -> io::Result<Vec<Page>> {
    let mut pages = vec![(
        "man/postmapd-follow.toml.5".to_owned(),
        settings_file().into_bytes(),
    )];
    let manual = Manual {
        program: "postmapd-follow",
        version: env!("CARGO_PKG_VERSION"),
        before_notes: |page| {
            let section = match page {
                "postmapd-follow" => PROGRAM,
                "postmapd-follow-run" => RUN,
                _ => "",
            };
            section.to_owned()
        },
        at_the_end: |_| SEE_ALSO.to_owned(),
    };
    manual.pages(&cli::definition(), &mut pages)?;
    Ok(pages)
}

/// What the first page says besides its commands.
const PROGRAM: &str = include_str!("postmapd-follow.roff");

/// What the page of `run` says besides its options: the admin listener and the log.
const RUN: &str = include_str!("postmapd-follow-run.roff");

const SEE_ALSO: &str = r".SH SEE ALSO
.BR postmapd\-follow (1),
.BR postmapd\-follow.toml (5),
.BR postmapd (1),
.BR postmapd\-tables (5)
";

/// The settings file: what comes before the list of settings, and after it.
const HEAD: &str = include_str!("postmapd-follow.toml.head.roff");
const TAIL: &str = include_str!("postmapd-follow.toml.tail.roff");

fn settings_file() -> String {
    let mut page = HEAD.to_owned();
    let of_table = |table: &str, page: &mut String| {
        for setting in ALL.iter().filter(|setting| setting.table == table) {
            page.extend([".TP\n.B ", &roff(setting.name), "\n", &roff(setting.about), ".\n"]);
            page.extend([".br\nDefault: ", &roff(&setting.default.to_string()), ".\n"]);
        }
    };
    of_table("", &mut page);
    page.extend([".SS [", QUERIES, "]\n"]);
    page += "With this table, the rows come from the results of queries and not from the schema of postmapd.\n\
             A source of MariaDB or MySQL needs it.\n\
             All queries of a publication see the same state of the database.\n";
    of_table(QUERIES, &mut page);
    page + TAIL
}
