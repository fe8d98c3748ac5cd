//! The manual pages of the commands, and the completions, of postmapd and of postmapd-follow.

use std::io;

use clap_complete::Shell;

/// What the pages of a program have besides its command line.
pub(crate) struct Manual {
    /// Its name.
    pub(crate) program: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// The sections of a page between the options and the notes.
    pub(crate) before_notes: fn(&str) -> String,
    /// The last sections of a page.
    pub(crate) at_the_end: fn(&str) -> String,
}

impl Manual {
    /// Adds a page for each command, and the completions.
    pub(crate) fn pages(
        &self,
        definition: &clap::Command,
        pages: &mut Vec<(String, Vec<u8>)>,
    ) -> io::Result<()> {
        let mut command = definition.clone().disable_help_subcommand(true);
        command.build();
        self.commands(&command, pages)?;
        let name = self.program;
        for (shell, file) in [
            (Shell::Bash, format!("{name}.bash")),
            (Shell::Zsh, format!("_{name}")),
            (Shell::Fish, format!("{name}.fish")),
        ] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut definition.clone(), name, &mut script);
            pages.push((format!("completions/{file}"), script));
        }
        Ok(())
    }

    /// Adds a page for a command, and one for each of its own.
    fn commands(&self, command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
        let name = command
            .get_display_name()
            .unwrap_or(command.get_name())
            .to_owned();
        let after_help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let own = || command.get_subcommands().filter(|own| !own.is_hide_set());
        let manual = clap_mangen::Man::new(command.clone())
            .title(name.as_str())
            .source(format!("{} {}", self.program, self.version))
            .manual(self.program);
        let mut page = Vec::new();
        manual.render_title(&mut page)?;
        // Endpoints and paths are to be copied, and no hyphen may come into them.
        page.extend(b".nh\n");
        manual.render_name_section(&mut page)?;
        page.extend(synopsis(command).into_bytes());
        manual.render_description_section(&mut page)?;
        manual.render_options_section(&mut page)?;
        if own().next().is_some() {
            manual.render_subcommands_section(&mut page)?;
        }
        page.extend((self.before_notes)(&name).into_bytes());
        page.extend(sections(&after_help).into_bytes());
        page.extend((self.at_the_end)(&name).into_bytes());
        pages.push((format!("man/{name}.1"), page));
        own().cloned().try_for_each(|own| self.commands(&own, pages))
    }
}

/// The synopsis: each option with its value, the required ones last, then the arguments.
fn synopsis(command: &clap::Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let mut line = format!("\\fB{}\\fR", roff(name));
    let is_own = |argument: &&clap::Arg| !argument.is_hide_set() && !is_of_every_command(argument);
    let all = || command.get_arguments().filter(is_own);
    let (required, optional): (Vec<_>, Vec<_>) = all().partition(|argument| argument.is_required_set());
    let mut optional = optional
        .into_iter()
        .filter(|argument| !argument.is_positional())
        .peekable();
    while let Some(option) = optional.next() {
        let mut choice = usage(option);
        while let Some(other) = optional.next_if(|other| {
            let conflicts = |one, other| command.get_arg_conflicts_with(one).contains(&other);
            conflicts(option, *other) || conflicts(*other, option)
        }) {
            choice = format!("{choice} | {}", usage(other));
        }
        line.extend([" [", &choice, "]"]);
    }
    for option in required.iter().filter(|argument| !argument.is_positional()) {
        line.extend([" ", &usage(option)]);
    }
    for argument in all().filter(|argument| argument.is_positional()) {
        let usage = usage(argument);
        if argument.is_required_set() {
            line.extend([" ", &usage]);
        } else {
            line.extend([" [", &usage, "]"]);
        }
    }
    if command.has_subcommands() {
        let required = command.is_subcommand_required_set();
        line += if required {
            " \\fIcommand\\fR"
        } else {
            " [\\fIcommand\\fR]"
        };
    }
    format!(".SH SYNOPSIS\n{line}\n")
}

/// Whether it is `--help` or `--version`.
fn is_of_every_command(argument: &clap::Arg) -> bool {
    ["help", "version"].contains(&argument.get_id().as_str())
}

/// An option with its value, or the name of an argument.
fn usage(argument: &clap::Arg) -> String {
    let values = argument
        .get_num_args()
        .is_some_and(|number| number.takes_values());
    let values = values
        .then(|| argument.get_value_names())
        .flatten()
        .unwrap_or_default();
    let values = values.iter().map(|value| format!("\\fI{}\\fR", roff(value)));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let option = long.or_else(|| argument.get_short().map(|short| format!("-{short}")));
    let option = option.map(|option| format!("\\fB{}\\fR", roff(&option)));
    let words: Vec<String> = option.into_iter().chain(values).collect();
    let more = match (argument.is_positional(), argument.get_action()) {
        (true, clap::ArgAction::Append) => "...",
        _ => "",
    };
    // An option and its value stay on one line.
    words.join("\\ ") + more
}

/// The text after the options as sections of a manual: what ends with a colon is an example, or the fields of an
/// output, what begins with `Exit codes` is the exit status, and the rest are notes.
fn sections(after_help: &str) -> String {
    let [mut notes, mut status, mut examples, mut fields] = [const { String::new() }; 4];
    for paragraph in after_help
        .split("\n\n")
        .filter(|paragraph| !paragraph.trim().is_empty())
    {
        match paragraph.split_once('\n') {
            Some((heading, lines)) if heading.starts_with("Fields") => {
                fields.extend([".PP\n", &roff(heading), "\n.PP\n.EX\n", &roff(lines), "\n.EE\n"]);
            }
            Some((heading, lines)) if heading.ends_with(':') => {
                if !heading.starts_with("Example") {
                    examples.extend([".PP\n", &roff(heading), "\n"]);
                }
                examples.extend([".EX\n", &roff(lines), "\n.EE\n"]);
            }
            _ if paragraph.starts_with("Exit codes") => {
                status.extend([&roff(paragraph.trim_start_matches("Exit codes: ")), "\n"]);
            }
            _ => notes.extend([".PP\n", &roff(paragraph), "\n"]),
        }
    }
    let section = |name, text: String| match text.as_str() {
        "" => text,
        _ => format!(".SH {name}\n{text}"),
    };
    section("NOTES", notes)
        + &section("EXIT STATUS", status)
        + &section("EXAMPLES", examples)
        + &section("OUTPUT", fields)
}

/// Text that groff shows as it is.
pub(crate) fn roff(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
}
