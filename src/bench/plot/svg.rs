//! A drawing as SVG: text is text, and the colours follow the reader's light or dark scheme.
//!
//! There is paper behind the drawing, so that a viewer that knows no schemes shows dark on light, whatever is around it.

use std::fmt::Write as _;

use super::{Anchor, Drawing, Ink, Shape};

/// Colours that are told apart by those who confuse red and green, and seen on light and on dark paper (Okabe and Ito).
const SERIES: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9"];

const STYLE: &str = "\
.paper{fill:#ffffff}.ink{fill:#1f2328}.axis{stroke:#1f2328}.grid{stroke:#d8dee4}\
text{font-family:system-ui,sans-serif}\
@media(prefers-color-scheme:dark){.paper{fill:#0d1117}.ink{fill:#e6edf3}.axis{stroke:#e6edf3}.grid{stroke:#30363d}}";

/// The drawing as an SVG document.
#[must_use]
pub fn write(drawing: &Drawing) -> String {
    let (width, height) = (drawing.width, drawing.height);
    let title = escaped(&drawing.title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n"
    );
    for shape in &drawing.shapes {
        // Writing to a string does not fail.
        let _ = match shape {
            Shape::Line {
                points,
                ink,
                width,
                dashed,
            } => {
                let mut places = String::new();
                for (x, y) in points {
                    let _ = write!(places, "{x:.1},{y:.1} ");
                }
                let stroke = match ink {
                    Ink::Text => "class=\"axis\"".to_owned(),
                    Ink::Grid => "class=\"grid\"".to_owned(),
                    Ink::Series(number) => format!("stroke=\"{}\"", colour(*number)),
                };
                let dashes = if *dashed { " stroke-dasharray=\"6 4\"" } else { "" };
                let places = places.trim_end();
                writeln!(
                    svg,
                    "<polyline points=\"{places}\" fill=\"none\" {stroke} stroke-width=\"{width}\"{dashes}/>"
                )
            }
            Shape::Text {
                at: (x, y),
                text,
                anchor,
                size,
                ink,
            } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let fill = match ink {
                    Ink::Text | Ink::Grid => "class=\"ink\"".to_owned(),
                    Ink::Series(number) => format!("fill=\"{}\"", colour(*number)),
                };
                let text = escaped(text);
                writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" {fill}>{text}</text>"
                )
            }
        };
    }
    svg + "</svg>\n"
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
