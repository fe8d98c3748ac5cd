//! The results as text, Markdown or JSON: medians with the minimum and the maximum of all rounds.

use serde::Serialize;

use crate::Format;
use crate::apparatus::Result;
use crate::apparatus::machine::Machine;
use crate::apparatus::spread::{Spread, grouped};
use crate::lookup::Requests;
use crate::table::{Answers, Method, Table};

/// The name of the row, and its figures.
const COLUMNS: usize = 7;

/// The results of one size.
#[derive(Serialize)]
pub(crate) struct Size {
    entries: u64,
    rows: Vec<Row>,
}

/// One method. Times are in seconds.
#[derive(Serialize)]
struct Row {
    table: String,
    /// The number of keys in each round.
    keys: u64,
    lookup: Option<Spread>,
    lookup_beside_busy_thread: Option<Spread>,
    start: Option<Spread>,
    change: Option<Spread>,
    /// The share of `postmap` in the change.
    build: Option<Spread>,
    answers: Option<&'static str>,
    /// The first answer that differs, if any.
    different: Option<String>,
    skipped: Option<String>,
}

impl Size {
    pub(crate) fn of(entries: u64, requests: &Requests, tables: Vec<Table>) -> Self {
        let rows = tables.into_iter().map(|table| Row::of(table, requests));
        Self {
            entries,
            rows: rows.collect(),
        }
    }

    /// The name and the reason of a row without figures.
    pub(crate) fn skipped(&self) -> Option<(&str, &str)> {
        self.rows
            .iter()
            .find_map(|row| Some((row.table.as_str(), row.skipped.as_deref()?)))
    }
}

impl Row {
    fn of(table: Table, requests: &Requests) -> Self {
        let keys = requests.of(&table).count;
        let (answers, different) = match (&table.method, table.answers) {
            _ if table.skipped.is_some() => (None, None),
            (Method::Constant, _) => (None, None),
            (_, Answers::Same) => (Some("same"), None),
            (_, Answers::Different(example)) => (Some("different"), Some(example)),
        };
        // Figures from before a failure are not the median of all rounds.
        let spread =
            |values: Vec<f64>| (table.skipped.is_none() && !values.is_empty()).then(|| Spread::of(values));
        Self {
            table: table.name,
            keys,
            lookup: spread(table.lookups),
            lookup_beside_busy_thread: spread(table.lookups_beside_busy_thread),
            start: spread(table.starts),
            change: spread(table.changes),
            build: spread(table.builds),
            answers,
            different,
            skipped: table.skipped,
        }
    }

    fn cells(&self) -> [String; COLUMNS] {
        let time = |spread: Option<Spread>| spread.map_or_else(|| "-".into(), Spread::time);
        let answers = match (&self.skipped, &self.different, self.answers) {
            (Some(why), ..) => format!("skipped: {}", why.replace(['\n', '|'], " ")),
            (_, Some(example), _) => format!("different: {}", example.replace('|', " ")),
            (_, _, answers) => answers.unwrap_or("-").into(),
        };
        [
            self.table.clone(),
            time(self.lookup),
            time(self.lookup_beside_busy_thread),
            time(self.start),
            time(self.change),
            time(self.build),
            answers,
        ]
    }
}

/// Prints everything.
pub(crate) fn print(format: Format, machine: &Machine, sizes: &[Size]) -> Result<()> {
    match format {
        Format::Json => {
            #[derive(Serialize)]
            struct Report<'a> {
                machine: &'a Machine,
                sizes: &'a [Size],
            }
            println!("{}", serde_json::to_string_pretty(&Report { machine, sizes })?);
        }
        Format::Markdown => {
            println!("{machine}");
            for size in sizes {
                let [first, rest @ ..] = heading(size);
                println!("| {first} | {} |", rest.join(" | "));
                println!("|---|{}", "---|".repeat(rest.len()));
                for row in &size.rows {
                    println!("| {} |", row.cells().join(" | "));
                }
                println!();
            }
        }
        Format::Text => {
            println!("{machine}");
            for size in sizes {
                let mut lines = vec![heading(size)];
                lines.extend(size.rows.iter().map(Row::cells));
                print_aligned(&lines);
                println!();
            }
        }
    }
    Ok(())
}

fn heading(size: &Size) -> [String; COLUMNS] {
    [
        format!("{} entries", grouped(size.entries)),
        "a lookup".into(),
        "beside a busy thread".into(),
        "start and one lookup".into(),
        "a line changes".into(),
        "of this, postmap".into(),
        "answers".into(),
    ]
}

fn print_aligned(lines: &[[String; COLUMNS]]) {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    for line in lines {
        let mut padded = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            padded.push_str(cell);
            padded.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        println!("{}", padded.trim_end());
    }
}
