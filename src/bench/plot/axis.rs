//! The axes: their ranges and marks.

use crate::bench::report::{format_micros, rounded};

/// An axis with its range and its marks.
pub(super) struct Axis {
    pub(super) min: f64,
    pub(super) max: f64,
    /// The position and the label of each mark.
    pub(super) marks: Vec<(f64, String)>,
    pub(super) title: String,
    /// Whether positions are logarithms of the measured values.
    pub(super) is_logarithmic: bool,
}

impl Axis {
    /// Returns the position of a measured value.
    pub(super) fn position(&self, measured: f64) -> f64 {
        if self.is_logarithmic {
            measured.max(1e-6).log10()
        } else {
            measured
        }
    }

    /// Returns how far along the axis a position is, from 0 to 1.
    pub(super) fn fraction(&self, value: f64) -> f64 {
        ((value - self.min) / (self.max - self.min).max(1e-9)).clamp(0.0, 1.0)
    }
}

/// Returns a logarithmic axis for these latencies, in microseconds, with marks at 1, 2, 5 and 10.
pub(super) fn latency_axis(micros: impl Iterator<Item = f64> + Clone) -> Axis {
    let min = micros.clone().fold(f64::INFINITY, f64::min).clamp(0.01, 1e9);
    let max = micros.fold(0.0, f64::max).clamp(min, 1e10);
    let steps: Vec<f64> = (-3..10)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)))
        .collect();
    let below = steps.iter().copied().rfind(|step| *step <= min).unwrap_or(0.001);
    let above = steps
        .iter()
        .copied()
        .find(|step| *step >= max)
        .unwrap_or(f64::INFINITY);
    let inside: Vec<f64> = steps
        .into_iter()
        .filter(|step| (below..=above).contains(step))
        .collect();
    // There are seldom more than three decades. If there are, only powers of ten are marked.
    let sparse = inside.len() > 11;
    let is_shown = |step: &f64| !sparse || (step.log10() - step.log10().round()).abs() < 1e-6;
    let short = |step: f64| format_micros(step).replace(".00", "").replace(".0 ", " ");
    Axis {
        min: below.log10(),
        max: above.min(1e10).log10(),
        marks: inside
            .into_iter()
            .filter(is_shown)
            .map(|step| (step.log10(), short(step)))
            .collect(),
        title: "latency".into(),
        is_logarithmic: true,
    }
}

/// Returns an axis of percentiles, on which each nine has the same width: positions are the negative power of ten of the
/// share of slower replies. Percentiles up to `nines` are marked, and the median.
pub(super) fn percentile_axis(nines: f64) -> Axis {
    let percentiles = [
        "0 %",
        "90 %",
        "99 %",
        "99.9 %",
        "99.99 %",
        "99.999 %",
        "99.9999 %",
        "99.99999 %",
    ];
    let nine = |(at, text): (u8, &str)| (f64::from(at), text.to_owned());
    let median = (2_f64.log10(), "50 %".to_owned());
    let marks = (0..).zip(percentiles).map(nine).chain([median]);
    Axis {
        min: 0.0,
        max: nines,
        marks: marks.filter(|(at, _)| *at <= nines).collect(),
        title: "percentile".into(),
        is_logarithmic: false,
    }
}

/// Returns a linear axis from 0 to a round number, with about five marks.
pub(super) fn rate_axis(max: f64) -> Axis {
    let rough = (max / 5.0).max(0.2);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let marks = (max / step).ceil().max(1.0);
    let mut at = 0.0;
    let mut shown = Vec::new();
    while at <= marks {
        shown.push((at * step, rounded(at * step).to_string()));
        at += 1.0;
    }
    Axis {
        min: 0.0,
        max: marks * step,
        marks: shown,
        title: "replies/s".into(),
        is_logarithmic: false,
    }
}
