//! The latency distribution as text in the percentile format of HdrHistogram, which its plotters read.
//!
//! One file has one distribution: all rounds of one server with one number of connections. Values are in microseconds.

use std::fmt::Write as _;

use super::{Report, Row};

/// A distribution, with what distinguishes it from the others of the report.
pub(crate) struct Distribution {
    /// The server and the number of connections, such as `16` or `a-16`.
    pub name: String,
    /// The content of the file.
    pub text: String,
}

impl Report<'_> {
    /// Whether the plan gives only one distribution.
    pub(crate) fn has_one_distribution(&self) -> bool {
        !self.is_comparison() && self.plan.connections.len() == 1
    }

    /// Returns the distributions of all rows that have replies.
    pub(crate) fn distributions(&self) -> Vec<Distribution> {
        let rows = self.rows();
        let measured = rows.iter().filter(|row| !row.latency.is_empty());
        measured
            .map(|row| {
                let server = match (self.is_comparison(), row.server) {
                    (false, _) => "",
                    (true, 0) => "a-",
                    (true, _) => "b-",
                };
                Distribution {
                    name: format!("{server}{}", row.connections),
                    text: self.distribution(row),
                }
            })
            .collect()
    }

    fn distribution(&self, row: &Row) -> String {
        let latency = &row.latency;
        let mut text = format!(
            "{:>12} {:>14} {:>10} {:>14}\n\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        );
        // Writing to a string does not fail.
        for percentile in latency.percentiles() {
            let _ = write!(
                text,
                "{:12.3} {:.12} {:10}",
                percentile.micros, percentile.share, percentile.count
            );
            // The last line has no fourth field, because it would be infinite.
            let _ = if percentile.share < 1.0 {
                writeln!(text, " {:14.2}", 1.0 / (1.0 - percentile.share))
            } else {
                writeln!(text)
            };
        }
        let (buckets, sub_buckets) = latency.buckets();
        let (mean, stddev, max) = (latency.mean(), latency.stddev(), latency.quantile(1.0));
        let _ = write!(
            text,
            "#[Mean    = {mean:12.3}, StdDeviation   = {stddev:12.3}]\n\
             #[Max     = {max:12.3}, Total count    = {:12}]\n\
             #[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]\n",
            latency.len()
        );
        let mut comments = self.servers();
        comments.push(format!("{}; values in microseconds", self.row_label(row)));
        comments.extend([self.summary(), self.origin()]);
        comments.extend(self.caveats());
        for comment in comments {
            let _ = writeln!(text, "# {}", comment.escape_debug());
        }
        text
    }
}
