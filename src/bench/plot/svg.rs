//! A drawing as SVG: text is text, and the colours follow the reader's light or dark scheme.
//!
//! There is paper behind the drawing, so that a viewer that knows no schemes shows dark on light, whatever is around it.

use std::fmt::Write as _;

/// Colours that are told apart by those who confuse red and green, and seen on light and on dark paper (Okabe and Ito).
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
    /// A colour of its own for each number.
    Series(usize),
}

/// Which end of a text is at its place.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing. Places and sizes are in pixels, from the upper left corner; what comes later covers what came before.
#[derive(Default)]
pub(super) struct Drawing {
    shapes: String,
}

impl Drawing {
    /// A line through these points.
    pub(super) fn line(&mut self, points: &[(f64, f64)], ink: Ink, dashed: bool) {
        let (stroke, width) = match ink {
            Ink::Text => ("class=\"axis\"".to_owned(), 1),
            Ink::Grid => ("class=\"grid\"".to_owned(), 1),
            Ink::Series(number) => (format!("stroke=\"{}\"", colour(number)), 2),
        };
        let places: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let places = places.join(" ");
        let broken = if dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(
            self.shapes,
            "<polyline points=\"{places}\" fill=\"none\" {stroke} stroke-width=\"{width}\"{broken}/>"
        );
    }

    /// A text of this height, with its base line there.
    pub(super) fn text(&mut self, (x, y): (f64, f64), text: &str, anchor: Anchor, size: f64, ink: Ink) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let fill = match ink {
            Ink::Text | Ink::Grid => "class=\"ink\"".to_owned(),
            Ink::Series(number) => format!("fill=\"{}\"", colour(number)),
        };
        let text = escaped(text);
        // Likewise.
        let _ = writeln!(
            self.shapes,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" {fill}>{text}</text>"
        );
    }

    /// The document. Its title is for readers who cannot see it.
    pub(super) fn finish(self, width: f64, height: f64, title: &str) -> String {
        let (title, shapes) = (escaped(title), self.shapes);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n{shapes}</svg>\n"
        )
    }
}

fn colour(number: usize) -> &'static str {
    SERIES.get(number % SERIES.len()).copied().unwrap_or("#808080")
}

/// Text between tags or in an attribute. XML has no way to write most control characters.
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
