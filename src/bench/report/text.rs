//! The report as text: circumstances, tables, the ratios, the generator's own figures, and the errors.

use std::fmt;
use std::io;

use super::format::{format_micros, plural};
use super::{GeneratorFigures, Report, server_prefix};
use crate::bench::compare::{Spread, compare};
use crate::bench::load::Mismatch;
use crate::bench::number::to_u64;

impl Report<'_> {
    /// Prints the report as text.
    pub(crate) fn text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        for line in self.servers() {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "{}", self.origin())?;
        let verified = if self.verified {
            "replies compared with the files"
        } else {
            "replies not verified"
        };
        let keys = self
            .plan
            .servers
            .first()
            .map_or(0, |server| server.requests.len());
        let keys = plural(to_u64(keys), "key");
        writeln!(out, "{keys} (seed {}), {verified}", self.seed)?;
        writeln!(
            out,
            "{}; {}, after {} s of warm-up\n",
            self.load_description(),
            self.run_length(),
            self.plan.load.warm_up.as_secs_f64()
        )?;
        let rows = self.rows();
        if !rows.is_empty() {
            self.print_counts(out, &rows)?;
            writeln!(out)?;
            self.print_latencies(out, &rows)?;
            writeln!(out)?;
        }
        self.print_total(out)?;
        if self.is_comparison() {
            self.print_ratios(out)?;
        }
        if !rows.is_empty() {
            self.print_generator(out)?;
        }
        self.print_errors(out)
    }

    /// Prints the requests, the duration and the kinds of replies of all runs.
    fn print_total(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let total = self.total();
        let measured: f64 = self
            .measured
            .iter()
            .map(|measurement| measurement.run.seconds)
            .sum();
        writeln!(
            out,
            "{} in {measured:.3} s ({:.3} s with warm-ups)",
            plural(total.requests, "request"),
            self.elapsed.as_secs_f64()
        )?;
        writeln!(
            out,
            "of {} replies: {} found, {} not found, {} cannot tell",
            total.replies(),
            total.found,
            total.not_found,
            total.cannot_tell
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
