//! The plot: the latency distribution, and replies per second and latencies by number of connections.
//!
//! The distribution is drawn as in HdrHistogram: the slowest hundredth gets as much room as the slowest tenth, because
//! servers differ there. Latencies have a logarithmic axis, so that both a median of 80 µs and a maximum of 5 ms are
//! readable. The output is SVG (`svg`).

mod axis;
mod svg;

use super::number::{to_f64, to_u64};
use super::report::{Report, Row, server_prefix};
use axis::{Axis, latency_axis, percentile_axis, rate_axis};
use svg::{Anchor, Drawing, Ink};

/// Points of a curve for each nine of the distribution.
const POINTS_PER_NINE: usize = 20;
/// The maximum number of lines; more cannot be told apart.
const MAX_LINES: usize = 6;
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 230.0;

/// The area of a curve, in pixels, with its axes.
struct Panel {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Axis,
    y: Axis,
}

/// Returns the plot of a report, as an SVG document.
pub(crate) fn svg(report: &Report<'_>) -> String {
    let rows: Vec<Row> = report
        .rows()
        .into_iter()
        .filter(|row| !row.latency.is_empty())
        .collect();
    let servers = report.plan.servers.len();
    let caveats = report.caveats();
    let mut drawing = Drawing::default();
    let mut top = heading(&mut drawing, report, &caveats) + 34.0;
    let mut bottom = top + 280.0;
    distribution(&mut drawing, report, &rows, (top, bottom));
    let mut connections: Vec<usize> = rows.iter().map(|row| row.connections).collect();
    connections.dedup();
    if connections.len() > 1 {
        top = bottom + 110.0;
        bottom = top + 210.0;
        over_connections(&mut drawing, &rows, &connections, servers, (top, bottom));
    }
    let mut title = format!("postmapd bench: {}", report.servers().join("; "));
    for caveat in &caveats {
        title = format!("{title}; {caveat}");
    }
    drawing.finish(WIDTH, bottom + 56.0, &title)
}

/// Draws the servers, the load and its results, the date and the machine, and what makes the curves doubtful. Returns
/// the position of the last line.
fn heading(drawing: &mut Drawing, report: &Report<'_>, caveats: &[String]) -> f64 {
    let x = LEFT - 50.0;
    let mut y = 12.0;
    for server in report.servers() {
        y += 20.0;
        drawing.text((x, y), &server, Anchor::Start, 16.0, Ink::Text);
    }
    for line in [report.summary(), report.origin()] {
        y += 20.0;
        drawing.label((x, y), &line, Anchor::Start);
    }
    for caveat in caveats {
        y += 22.0;
        drawing.text((x, y), caveat, Anchor::Start, 15.0, Ink::Series(1));
    }
    y
}

fn distribution(drawing: &mut Drawing, report: &Report<'_>, rows: &[Row], (top, bottom): (f64, f64)) {
    let servers = report.plan.servers.len();
    // If there are too many numbers of connections, some are chosen evenly, including the first and the last.
    let groups = rows.len() / servers.max(1);
    let max = MAX_LINES / servers.max(1);
    let shown: Vec<&Row> = if groups <= max || max < 2 {
        rows.iter().take(MAX_LINES).collect()
    } else {
        let chosen: Vec<usize> = (0..max).map(|n| n * (groups - 1) / (max - 1)).collect();
        let is_chosen = |(number, _): &(usize, &Row)| chosen.contains(&(number / servers.max(1)));
        rows.iter()
            .enumerate()
            .filter(is_chosen)
            .map(|(_, row)| row)
            .collect()
    };
    let curves: Vec<Vec<(f64, f64)>> = shown
        .iter()
        .map(|row| row.latency.curve(POINTS_PER_NINE))
        .collect();
    let nines = curves
        .iter()
        .filter_map(|curve| Some(curve.last()?.0))
        .fold(1.0, f64::max);
    let panel = Panel {
        left: LEFT,
        right: WIDTH - RIGHT,
        top,
        bottom,
        x: percentile_axis(nines),
        y: latency_axis(curves.iter().flatten().map(|point| point.1)),
    };
    drawing.panel(&panel);
    for (number, (curve, row)) in curves.iter().zip(&shown).enumerate() {
        let (series, dashed) = (Ink::Series(number), row.server > 0);
        drawing.line(
            &curve.iter().map(|point| panel.at(*point)).collect::<Vec<_>>(),
            series,
            dashed,
        );
        drawing.legend(top, number, series, &report.row_label(row), dashed);
    }
}

fn over_connections(
    drawing: &mut Drawing,
    rows: &[Row],
    connections: &[usize],
    servers: usize,
    (top, bottom): (f64, f64),
) {
    let position = |connections: usize| to_f64(to_u64(connections)).log2();
    let ends = (
        connections.first().copied().map(position),
        connections.last().copied().map(position),
    );
    let axis = || Axis {
        min: ends.0.unwrap_or_default(),
        max: ends.1.unwrap_or(1.0),
        marks: connections
            .iter()
            .map(|number| (position(*number), number.to_string()))
            .collect(),
        title: "connections".into(),
        is_logarithmic: false,
    };
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    let rates = Panel {
        left: LEFT,
        right: middle - 45.0,
        top,
        bottom,
        x: axis(),
        y: rate_axis(rows.iter().map(Row::rate).fold(0.0, f64::max)),
    };
    let latencies = rows
        .iter()
        .flat_map(|row| [row.latency.quantile(0.5), row.latency.quantile(0.99)]);
    let times = Panel {
        left: middle + 45.0,
        right: WIDTH - RIGHT,
        top,
        bottom,
        x: axis(),
        y: latency_axis(latencies),
    };
    drawing.panel(&rates);
    drawing.panel(&times);
    for server in 0..servers {
        let letter = server_prefix(servers, server);
        let dashed = server > 0;
        let own = || rows.iter().filter(|row| row.server == server);
        let curve = |panel: &Panel, figure: &dyn Fn(&Row) -> f64| -> Vec<(f64, f64)> {
            own()
                .map(|row| panel.at((position(row.connections), figure(row))))
                .collect()
        };
        drawing.points(&curve(&rates, &Row::rate), Ink::Series(0), dashed);
        if servers > 1 {
            let (x, y) = (rates.right - 90.0 + 50.0 * to_f64(to_u64(server)), top - 16.0);
            drawing.line(&[(x, y), (x + 22.0, y)], Ink::Series(0), dashed);
            drawing.label((x + 28.0, y + 4.0), if dashed { "B" } else { "A" }, Anchor::Start);
        }
        for (line, (series, what, share)) in [(1, "p99", 0.99), (2, "p50", 0.5)].into_iter().enumerate() {
            let quantile = |row: &Row| row.latency.quantile(share);
            drawing.points(&curve(&times, &quantile), Ink::Series(series), dashed);
            let text = format!("{letter}{what}");
            drawing.legend(top, 2 * server + line, Ink::Series(series), &text, dashed);
        }
    }
}

impl Panel {
    /// Returns the position of a point: its x as a position on the axis, its y as a measured value.
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x_at(x), self.y_at(self.y.position(y)))
    }

    fn x_at(&self, x: f64) -> f64 {
        self.left + self.x.fraction(x) * (self.right - self.left)
    }

    fn y_at(&self, y: f64) -> f64 {
        self.bottom - self.y.fraction(y) * (self.bottom - self.top)
    }
}

impl Drawing {
    fn label(&mut self, at: (f64, f64), text: &str, anchor: Anchor) {
        self.text(at, text, anchor, 12.0, Ink::Text);
    }

    /// Draws a line through measured points, which it marks.
    fn points(&mut self, points: &[(f64, f64)], ink: Ink, dashed: bool) {
        self.line(points, ink, dashed);
        for point in points {
            self.dot(*point, ink);
        }
    }

    /// Draws a legend entry beside a panel with this top. Rows are numbered from 0.
    fn legend(&mut self, top: f64, row: usize, ink: Ink, text: &str, dashed: bool) {
        let x = WIDTH - RIGHT + 18.0;
        let y = top + 10.0 + 20.0 * to_f64(to_u64(row));
        self.line(&[(x, y), (x + 22.0, y)], ink, dashed);
        self.label((x + 30.0, y + 4.0), text, Anchor::Start);
    }

    /// Draws the axes with their marks and titles.
    fn panel(&mut self, panel: &Panel) {
        let Panel {
            left,
            right,
            top,
            bottom,
            ..
        } = *panel;
        for (value, text) in &panel.x.marks {
            let x = panel.x_at(*value);
            self.line(&[(x, top), (x, bottom)], Ink::Grid, false);
            self.label((x, bottom + 18.0), text, Anchor::Middle);
        }
        for (value, text) in &panel.y.marks {
            let y = panel.y_at(*value);
            self.line(&[(left, y), (right, y)], Ink::Grid, false);
            self.label((left - 8.0, y + 4.0), text, Anchor::End);
        }
        self.line(&[(left, top), (left, bottom), (right, bottom)], Ink::Text, false);
        self.label((left, top - 12.0), &panel.y.title, Anchor::Start);
        let middle = f64::midpoint(left, right);
        self.label((middle, bottom + 40.0), &panel.x.title, Anchor::Middle);
    }
}
