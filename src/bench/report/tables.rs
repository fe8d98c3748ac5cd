//! The tables of the text report. Every heading and every value is one field, so that `awk` and `sort` can read them.

use std::io;

use super::format::{field_micros, whole};
use super::{Report, Row};
use crate::bench::number::{ratio, to_f64};

impl Report<'_> {
    /// Prints the counts, the duration and the rate of each row.
    pub(super) fn print_counts(&self, out: &mut dyn io::Write, rows: &[Row]) -> io::Result<()> {
        let has_cpu = rows.iter().any(|row| row.cpu.is_some());
        self.print_first_columns(out, None)?;
        write!(
            out,
            "  {:>10}  {:>8}  {:>9}  {:>10}  {:>10}  {:>11}  {:>7}",
            "requests", "seconds", "replies/s", "found", "not_found", "cannot_tell", "errors"
        )?;
        writeln!(out, "{}", if has_cpu { "  cpu/reply" } else { "" })?;
        for row in rows {
            let tally = &row.tally;
            self.print_first_columns(out, Some(row))?;
            write!(
                out,
                "  {:>10}  {:>8.3}  {:>9}  {:>10}  {:>10}  {:>11}  {:>7}",
                tally.requests,
                row.seconds,
                whole(row.rate()),
                tally.found,
                tally.not_found,
                tally.cannot_tell,
                tally.errors.total()
            )?;
            if let Some(cpu) = row.cpu {
                let micros = ratio(to_f64(cpu), to_f64(tally.replies())) / 1e3;
                write!(out, "  {:>9}", field_micros(micros))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Prints the latencies of each row, and marks the rows that are invalid or incomplete.
    pub(super) fn print_latencies(&self, out: &mut dyn io::Write, rows: &[Row]) -> io::Result<()> {
        self.print_first_columns(out, None)?;
        for name in [
            "min", "mean", "stddev", "p50", "p90", "p99", "p99.9", "p99.99", "max",
        ] {
            write!(out, "  {name:>7}")?;
        }
        writeln!(out)?;
        for row in rows {
            self.print_first_columns(out, Some(row))?;
            for (_, micros) in row.latency.figures() {
                let shown = if row.latency.is_empty() {
                    "-".to_owned()
                } else {
                    field_micros(micros)
                };
                write!(out, "  {shown:>7}")?;
            }
            for mark in row.marks() {
                write!(out, "  {mark}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Prints the columns that name a row, or their headings.
    fn print_first_columns(&self, out: &mut dyn io::Write, row: Option<&Row>) -> io::Result<()> {
        if self.is_comparison() {
            let server = row.map_or("server", |row| if row.server == 0 { "A" } else { "B" });
            write!(out, "{server:>6}  ")?;
        }
        let connections = row.map_or("connections".to_owned(), |row| row.connections.to_string());
        write!(out, "{connections:>11}")
    }
}
