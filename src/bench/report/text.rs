//! The report as text: a table, the ratios, the generator's own figures, and the errors.

use std::fmt;
use std::io;

use super::{GeneratorFigures, Report, format_micros, grouped, plural, server_prefix};
use crate::bench::compare::{Spread, compare};
use crate::bench::load::Mismatch;
use crate::bench::number::{ratio, to_f64, to_u64};
use crate::bench::tally::Tally;

impl Report<'_> {
    /// Prints the report as text.
    pub(crate) fn text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let load = &self.plan.load;
        let Some(first) = self.plan.servers.first() else {
            return Ok(());
        };
        for (letter, server) in ('A'..).zip(&self.plan.servers) {
            let letter = if self.is_comparison() {
                format!("{letter} = ")
            } else {
                String::new()
            };
            writeln!(out, "{letter}{}, map {}", server.target, server.target.map)?;
        }
        let verified = if self.verified {
            "replies compared with the files"
        } else {
            "replies not verified"
        };
        let keys = plural(to_u64(first.requests.len()), "key");
        writeln!(out, "{keys} (seed {}), {verified}", self.seed)?;
        let long = match (load.duration, load.count) {
            (Some(duration), None) => format!("{} s", duration.as_secs_f64()),
            (Some(duration), Some(count)) => format!(
                "{} requests or {} s",
                grouped(to_f64(count)),
                duration.as_secs_f64()
            ),
            (None, Some(count)) => format!("{} requests", grouped(to_f64(count))),
            (None, None) => String::new(),
        };
        let warm_up = load.warm_up.as_secs_f64();
        writeln!(
            out,
            "{}; {long} for each run, after {warm_up} s of warm-up\n",
            self.load_description()
        )?;
        self.print_table(out)?;
        self.print_outcomes(out)?;
        if self.is_comparison() {
            self.print_ratios(out)?;
        }
        self.print_generator(out)?;
        self.print_errors(out)
    }

    fn print_table(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let rows = self.rows();
        let has_cpu = rows.iter().any(|row| row.cpu.is_some());
        let letter = if self.is_comparison() { "  " } else { "" };
        write!(
            out,
            "{letter}{:>11}  {:>10}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>7}",
            "connections", "replies/s", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max", "errors"
        )?;
        writeln!(out, "{}", if has_cpu { "  cpu/reply" } else { "" })?;
        for row in rows {
            if self.is_comparison() {
                write!(out, "{} ", if row.server == 0 { 'A' } else { 'B' })?;
            }
            write!(out, "{:>11}  {:>10}", row.connections, grouped(row.rate()))?;
            for (_, micros) in row.latency.figures() {
                let shown = if row.latency.is_empty() {
                    "-".to_owned()
                } else {
                    format_micros(micros)
                };
                write!(out, "  {shown:>8}")?;
            }
            write!(out, "  {:>7}", row.tally.errors.total())?;
            if let Some(cpu) = row.cpu {
                write!(
                    out,
                    "  {:>9}",
                    format_micros(ratio(to_f64(cpu), to_f64(row.tally.replies())) / 1e3)
                )?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Prints the kinds of replies of all runs.
    fn print_outcomes(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let sum = |figure: &dyn Fn(&Tally) -> u64| {
            let figures = self
                .measured
                .iter()
                .map(|measurement| figure(&measurement.run.tally));
            grouped(to_f64(figures.sum()))
        };
        writeln!(
            out,
            "\nof {} replies: {} found, {} not found, {} cannot tell",
            sum(&Tally::replies),
            sum(&|tally| tally.found),
            sum(&|tally| tally.not_found),
            sum(&|tally| tally.cannot_tell)
        )
    }

    fn print_ratios(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let rounds = plural(u64::from(self.plan.rounds), "round");
        writeln!(out, "\nB relative to A: median of {rounds} (minimum..maximum)\n")?;
        writeln!(
            out,
            "{:>11}  {:>18}  {:>18}  {:>18}  {:>18}  {:>18}",
            "connections", "replies/s", "p50", "p99", "p99.9", "cpu/reply"
        )?;
        for compared in compare(self.measured) {
            write!(out, "{:>11}", compared.connections)?;
            let shown = ["replies_per_second", "p50", "p99", "p99_9", "server_cpu"];
            for (_, spread) in compared.ratios.iter().filter(|(name, _)| shown.contains(name)) {
                let shown = spread.map_or_else(|| "-".into(), |spread| spread.to_string());
                write!(out, "  {shown:>18}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Prints the generator's own figures: the worst of all runs.
    fn print_generator(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let worst = |figure: &dyn Fn(&GeneratorFigures) -> f64| {
            let figures = self
                .measured
                .iter()
                .map(|measurement| figure(&GeneratorFigures::new(&measurement.run)));
            figures.fold(0.0, f64::max)
        };
        let (cpu, wait) = (
            worst(&|generator| generator.cpu) * 100.0,
            worst(&|generator| generator.cpu_wait) * 100.0,
        );
        write!(
            out,
            "\ngenerator: used at most {cpu:.0} % of a processor, and waited for one at most {wait:.0} % of the time"
        )?;
        if self
            .measured
            .iter()
            .any(|measurement| !measurement.run.lateness.is_empty())
        {
            let (p99, max) = (
                worst(&|generator| generator.lateness_p99_us),
                worst(&|generator| generator.lateness_max_us),
            );
            write!(
                out,
                "; sent requests {} late (p99), {} at most",
                format_micros(p99),
                format_micros(max)
            )?;
        }
        writeln!(out)
    }

    /// Prints the errors, and reasons to distrust the figures.
    fn print_errors(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let errors = self.errors();
        if errors.total() > 0 {
            writeln!(out, "\n{}:", plural(errors.total(), "error"))?;
            for (_, words, number) in errors.by_kind().filter(|(.., number)| *number > 0) {
                writeln!(out, "  {number:>9}  {words}")?;
            }
        }
        let mut shown: Vec<(usize, Mismatch)> = Vec::new();
        for measured in self.measured {
            for mismatch in &measured.run.mismatches {
                let this = (measured.server, *mismatch);
                if shown.len() < 10 && !shown.contains(&this) {
                    shown.push(this);
                }
            }
        }
        for (number, mismatch) in shown {
            let Some(server) = self.plan.servers.get(number) else {
                continue;
            };
            let letter = server_prefix(self.plan.servers.len(), number);
            let key = server.requests.key(mismatch.request).escape_ascii();
            let (expected, actual) = (mismatch.expected.name(), mismatch.actual.name());
            let other = if mismatch.expected == mismatch.actual {
                " with another value"
            } else {
                ""
            };
            writeln!(
                out,
                "  {letter}{key}: expected {expected}, received {actual}{other}"
            )?;
        }
        for warning in self.warnings() {
            writeln!(out, "\n{warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}..{:.2})", self.median, self.min, self.max)
    }
}
