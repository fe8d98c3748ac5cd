//! A drawing as SVG. Text remains text, and the colours follow the viewer's light or dark scheme.
//!
//! The drawing has a background of its own, so that a viewer without schemes shows dark on light on any page.

use std::fmt::Write as _;

/// Colours that people with red-green colour blindness can tell apart, visible on light and dark (Okabe and Ito).
const SERIES: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9"];

const STYLE: &str = "\
.paper{fill:#ffffff}.ink{fill:#1f2328}.axis{stroke:#1f2328}.grid{stroke:#d8dee4}\
text{font-family:system-ui,sans-serif}\
@media(prefers-color-scheme:dark){.paper{fill:#0d1117}.ink{fill:#e6edf3}.axis{stroke:#e6edf3}.grid{stroke:#30363d}}";

/// The colour of a line or a text.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    /// Text and axes.
    Text,
    /// The grid.
    Grid,
    /// A data series; each number has its own colour.
    Series(usize),
}

/// The part of a text that is at its position.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing. Positions and sizes are in pixels from the upper left corner. Later shapes cover earlier ones.
#[derive(Default)]
pub(super) struct Drawing {
    shapes: String,
}

impl Drawing {
    /// Draws a line through these points.
    pub(super) fn line(&mut self, points: &[(f64, f64)], ink: Ink, dashed: bool) {
        let (stroke, width) = match ink {
            Ink::Text => ("class=\"axis\"".to_owned(), 1),
            Ink::Grid => ("class=\"grid\"".to_owned(), 1),
            Ink::Series(number) => (format!("stroke=\"{}\"", colour(number)), 2),
        };
        let places: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let places = places.join(" ");
        let dash = if dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(
            self.shapes,
            "<polyline points=\"{places}\" fill=\"none\" {stroke} stroke-width=\"{width}\"{dash}/>"
        );
    }

    /// Draws a dot.
    pub(super) fn dot(&mut self, (x, y): (f64, f64), ink: Ink) {
        let fill = fill(ink);
        // Writing to a string does not fail.
        let _ = writeln!(
            self.shapes,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" {fill}/>"
        );
    }

    /// Draws a text of this size, in pixels, with its baseline at `y`.
    pub(super) fn text(&mut self, (x, y): (f64, f64), text: &str, anchor: Anchor, size: f64, ink: Ink) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let fill = fill(ink);
        let text = escaped(text);
        // Writing to a string does not fail.
        let _ = writeln!(
            self.shapes,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" {fill}>{text}</text>"
        );
    }

    /// Returns the SVG document. The title is for screen readers.
    pub(super) fn finish(self, width: f64, height: f64, title: &str) -> String {
        let (title, shapes) = (escaped(title), self.shapes);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n{shapes}</svg>\n"
        )
    }
}

fn fill(ink: Ink) -> String {
    match ink {
        Ink::Text | Ink::Grid => "class=\"ink\"".to_owned(),
        Ink::Series(number) => format!("fill=\"{}\"", colour(number)),
    }
}

fn colour(number: usize) -> &'static str {
    SERIES.get(number % SERIES.len()).copied().unwrap_or("#808080")
}

/// Escapes text for elements and attributes. Control characters are replaced, because XML cannot represent most of
/// them.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}
