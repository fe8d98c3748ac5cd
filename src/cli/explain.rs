//! `postmapd query --explain`: why a key has its answer, and what Postfix does with it; from the files, or from a running
//! server (`--admin`).
//!
//! For an envelope sender both halves are shown, whichever map is queried: the next hop, and the credentials in the
//! order in which Postfix queries them. A password is never shown, only that there is one, and for which user.

use std::io::{self, Write};

use super::OutputFormat;
use super::status::format_time;
use crate::config::Sources;
use crate::control::admin::explain::ServerExplanation;
use crate::lookup::explain::object::{self, ExplanationObject, Presentation, SourceObject};
use crate::lookup::explain::{Reader, explain};
use crate::lookup::map::Map;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::os::printable::{json, printable};
use crate::protocol::answer::Answer;

/// Prints why `key` has its answer, and returns the answer.
pub(super) fn print<'a>(
    snapshot: &'a Snapshot,
    sources: &Sources,
    map: Map,
    key: &[u8],
    format: OutputFormat,
    scratch: &'a mut Scratch,
    out: &mut impl Write,
) -> io::Result<Answer<'a>> {
    let explanation = explain(snapshot, map, key, scratch);
    let mut object = ExplanationObject::new(
        snapshot,
        &explanation,
        Presentation {
            directory: sources.dir(),
            reader: Reader::Command,
            text: match format {
                OutputFormat::Text => printable,
                OutputFormat::Json => object::lossy,
            },
        },
    );
    if depends_on_default(&object) || object.related().any(depends_on_default) {
        object.environment = Some(sources.environment.to_string());
    }
    match format {
        OutputFormat::Text => {
            print_text(&object, out)?;
            if let Some(environment) = &object.environment {
                writeln!(out, "\nevaluated with {environment}")?;
            }
        }
        OutputFormat::Json => json::write(&object, &mut *out)?,
    }
    writeln!(out)?;
    Ok(explanation.answer)
}

/// Prints the explanation of a running server, which is also given as it was received.
pub(super) fn print_of_server(
    answer: &ServerExplanation,
    json: &[u8],
    format: OutputFormat,
    out: &mut impl Write,
) -> io::Result<()> {
    if format == OutputFormat::Json {
        return writeln!(out, "{}", json::escaped(json.trim_ascii()));
    }
    print_text(&answer.explanation, out)?;
    let snapshot = &answer.snapshot;
    let files: Vec<String> = snapshot
        .differing_files
        .iter()
        .map(|file| printable(file.as_bytes()))
        .collect();
    let compared = if files.is_empty() {
        "the files on disk are the same".to_owned()
    } else {
        format!("these files differ on disk: {}", files.join(", "))
    };
    writeln!(
        out,
        "\nanswered by the running server: generation {}, active since {}; {compared}\n",
        snapshot.generation,
        printable(format_time(&snapshot.loaded).as_bytes()),
    )
}

/// Whether the answer depends on the default relay, and so on the environment.
fn depends_on_default(object: &ExplanationObject) -> bool {
    object.map != Map::SASL.name && !matches!(object.source, Some(SourceObject::Line { .. }))
}

/// Prints an explanation and the rest of the sender's route.
fn print_text(object: &ExplanationObject, out: &mut impl Write) -> io::Result<()> {
    print_one(object, out)?;
    for other in object.related() {
        writeln!(out)?;
        print_one(other, out)?;
    }
    if object.next_hops_not_explained > 0 {
        writeln!(
            out,
            "\nnext hops that are not explained: {}",
            object.next_hops_not_explained
        )?;
    }
    Ok(())
}

fn print_one(object: &ExplanationObject, out: &mut impl Write) -> io::Result<()> {
    let shown = |text: &str| printable(text.as_bytes());
    let tried: Vec<String> = object.tried.iter().map(|key| shown(key)).collect();
    writeln!(out, "{} {}", shown(&object.map), shown(&object.key))?;
    writeln!(out, "  tried    {}", tried.join(", "))?;
    let outcome = shown(&object.outcome).replace('_', " ");
    match &object.value {
        Some(value) => writeln!(out, "  answer   {outcome}: {}", shown(value))?,
        None => writeln!(out, "  answer   {outcome}")?,
    }
    match &object.source {
        Some(SourceObject::Line { file, line }) => writeln!(out, "  from     {}:{line}", shown(file))?,
        Some(SourceObject::Variable { variable }) => writeln!(out, "  from     {}", shown(variable))?,
        None => {}
    }
    writeln!(out, "  because  {}", shown(&object.reason))?;
    writeln!(out, "  Postfix  {}", shown(&object.postfix))
}
