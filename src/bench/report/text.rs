//! The report as text: a table, the ratios, the generator's own figures, and the errors.

use std::fmt;
use std::io;

use super::{Generator, Report, grouped, letter, plural, time};
use crate::bench::compare::{Spread, compare};
use crate::bench::load::Mismatch;
use crate::bench::number::{count, float, ratio};
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
            "replies not compared with anything"
        };
        let keys = plural(count(first.questions.len()), "key");
        writeln!(out, "{keys} (seed {}), {verified}", self.seed)?;
        let long = match (load.duration, load.count) {
            (Some(duration), None) => format!("{} s", duration.as_secs_f64()),
            (Some(duration), Some(count)) => format!(
                "{} requests or {} s",
                grouped(float(count)),
                duration.as_secs_f64()
            ),
            (None, Some(count)) => format!("{} requests", grouped(float(count))),
            (None, None) => String::new(),
        };
        let warm_up = load.warm_up.as_secs_f64();
        writeln!(
            out,
            "{}; {long} each after {warm_up} s of warm-up\n",
            self.manner()
        )?;
        self.table(out)?;
        self.answers(out)?;
        if self.is_comparison() {
            self.ratios(out)?;
        }
        self.generator(out)?;
        self.troubles(out)
    }

    fn table(&self, out: &mut dyn io::Write) -> io::Result<()> {
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
                    time(micros)
                };
                write!(out, "  {shown:>8}")?;
            }
            write!(out, "  {:>7}", row.tally.faults.total())?;
            if let Some(cpu) = row.cpu {
                write!(
                    out,
                    "  {:>9}",
                    time(ratio(float(cpu), float(row.tally.replies())) / 1e3)
                )?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Prints the kinds of replies of all runs.
    fn answers(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let sum = |figure: &dyn Fn(&Tally) -> u64| {
            let figures = self.measured.iter().map(|one| figure(&one.run.tally));
            grouped(float(figures.sum()))
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

    fn ratios(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let rounds = plural(u64::from(self.plan.rounds), "round");
        writeln!(
            out,
            "\nB to A: the median of {rounds}, and the least and the greatest\n"
        )?;
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
    fn generator(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let most = |figure: &dyn Fn(&Generator) -> f64| {
            let figures = self.measured.iter().map(|one| figure(&Generator::of(&one.run)));
            figures.fold(0.0, f64::max)
        };
        let (cpu, wait) = (most(&|own| own.cpu) * 100.0, most(&|own| own.cpu_wait) * 100.0);
        write!(
            out,
            "\nthe generator: at most {cpu:.0} % of a processor, and {wait:.0} % of the time waiting for one"
        )?;
        if self.measured.iter().any(|one| !one.run.lateness.is_empty()) {
            let (p99, max) = (most(&|own| own.lateness_p99_us), most(&|own| own.lateness_max_us));
            write!(out, "; it sent {} late (p99), {} at most", time(p99), time(max))?;
        }
        writeln!(out)
    }

    /// Prints the errors, and reasons to distrust the figures.
    fn troubles(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let faults = self.faults();
        if faults.total() > 0 {
            writeln!(out, "\n{}:", plural(faults.total(), "error"))?;
            for (_, words, number) in faults.each().filter(|(.., number)| *number > 0) {
                writeln!(out, "  {number:>9}  {words}")?;
            }
        }
        let mut said: Vec<(usize, Mismatch)> = Vec::new();
        for measured in self.measured {
            for mismatch in &measured.run.mismatches {
                let this = (measured.server, *mismatch);
                if said.len() < 10 && !said.contains(&this) {
                    said.push(this);
                }
            }
        }
        for (number, mismatch) in said {
            let Some(server) = self.plan.servers.get(number) else {
                continue;
            };
            let letter = letter(self.plan.servers.len(), number);
            let key = server.questions.key(mismatch.question).escape_ascii();
            let (right, said) = (mismatch.right.name(), mismatch.said.name());
            let other = if mismatch.right == mismatch.said {
                ", another value"
            } else {
                ""
            };
            writeln!(
                out,
                "  {letter}{key}: the files say {right}, the server said {said}{other}"
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
