//! Reasons why the figures may not be those of the server, or not those that were wanted.

use super::format::{format_micros, percent, plural};
use super::{GeneratorFigures, Report};
use crate::bench::Measurement;
use crate::bench::load::LATE_AFTER;
use crate::bench::number::{ratio, to_f64, to_u64};

/// Above this share of a processor, the generator may be the limit.
const BUSY_SHARE: f64 = 0.95;
/// Above this share of time waiting for a processor, the generator shares one with the server or other programs.
const CONTENDED_SHARE: f64 = 0.2;
/// From this share of replies without a value, the figures are those of misses.
const MISSES_SHARE: f64 = 0.95;

impl Report<'_> {
    /// Returns how many of the replies are *not found*, if these are nearly all.
    fn misses(&self) -> Option<String> {
        let total = self.total();
        let are_misses =
            total.replies() > 0 && ratio(to_f64(total.not_found), to_f64(total.replies())) >= MISSES_SHARE;
        are_misses.then(|| percent(total.not_found, total.replies()))
    }

    /// Returns short marks for the plot, if its curves are misleading.
    pub(crate) fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        if !self.is_complete() {
            caveats.push("INCOMPLETE: interrupted".to_owned());
        }
        let is_invalid = |measurement: &Measurement| !GeneratorFigures::new(&measurement.run).valid;
        if self.measured.iter().any(is_invalid) {
            caveats.push("INVALID: the generator could not keep up".to_owned());
        }
        if let Some(share) = self.misses() {
            caveats.push(format!("{share} of the replies were not found"));
        }
        caveats
    }

    /// Returns the reasons, each as a paragraph.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let incomplete = (!self.is_complete()).then(|| {
            format!(
                "Incomplete: interrupted. {} of {} were measured, and the last may be shorter than the others.",
                self.measured.len(),
                plural(to_u64(self.plan.runs()), "run"),
            )
        });
        let misses = self.misses().map(|share| {
            let advice = if self.verified {
                ""
            } else {
                " Use --dir for the keys of the tables, or --keys for a list of your own."
            };
            format!("{share} of the replies were not found, so these are the latencies of misses.{advice}")
        });
        let first = [incomplete, misses].into_iter().flatten();
        first.chain(self.warnings_about_the_generator()).collect()
    }

    fn warnings_about_the_generator(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let generators = || {
            self.measured
                .iter()
                .map(|measurement| (measurement, GeneratorFigures::new(&measurement.run)))
        };
        if let Some((measurement, generator)) = generators().find(|(_, generator)| !generator.valid) {
            warnings.push(format!(
                "Invalid: the generator could not keep up. With {}, it sent {} of {} requests more than {} late (up \
                 to {}), although a connection was free. The latencies include its own delays.",
                plural(to_u64(measurement.connections), "connection"),
                generator.late,
                measurement.run.lateness.len(),
                format_micros(to_f64(LATE_AFTER) / 1e3),
                format_micros(generator.lateness_max_us),
            ));
        }
        let longest = generators()
            .map(|(_, generator)| generator.cpu_wait)
            .fold(0.0, f64::max);
        if longest >= CONTENDED_SHARE {
            warnings.push(format!(
                "The generator waited for a processor {:.0} % of the time, because it shared one with the server or \
                 with other programs. This distorts all figures; use taskset(1) to give each its own.",
                longest * 100.0
            ));
        }
        let busiest = generators()
            .map(|(_, generator)| generator.cpu)
            .fold(0.0, f64::max);
        if busiest >= BUSY_SHARE {
            warnings.push(format!(
                "The generator used {:.0} % of a processor: if the replies per second no longer rise, it may be the \
                 limit.",
                busiest * 100.0
            ));
        }
        warnings
    }
}
