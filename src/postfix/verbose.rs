//! Services that write passwords into the log. With `-v`, smtp(8) logs the replies of the password map and what it
//! sends to the server, and proxymap(8) logs what it passes on. This affects tables of every type.
//!
//! `debug_peer_list` has the same effect for the servers that it names ([`super::conflicts`]).

use super::config::Service;
use super::table_list;

/// The options of Postfix's daemons that take an argument (`single_server(3)`).
const OPTIONS_WITH_ARGUMENT: &str = "imnost";

/// Whether the command of a service in master.cf has `-v`.
pub(super) fn is_verbose(service: &Service) -> bool {
    let mut words = table_list::split_outside_braces(&service.command, |c| c.is_ascii_whitespace()).skip(1);
    while let Some(word) = words.next() {
        let Some(options) = word.strip_prefix('-').filter(|options| !options.is_empty()) else {
            return false;
        };
        // As in getopt(3), options may be combined, and the text after an option that takes an argument is its
        // argument.
        for (at, option) in options.char_indices() {
            if option == 'v' {
                return true;
            }
            if OPTIONS_WITH_ARGUMENT.contains(option) {
                if at + option.len_utf8() == options.len() {
                    words.next();
                }
                break;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_verbose;
    use crate::postfix::command::ServiceName;
    use crate::postfix::config::Service;

    #[test]
    fn the_verbose_option_is_found_where_getopt_finds_it() {
        let verbose = |command: &str| {
            is_verbose(&Service {
                id: ServiceName {
                    name: "smtp".to_owned(),
                    service_type: "unix".to_owned(),
                },
                chrooted: false,
                columns: Vec::new(),
                program: "smtp".to_owned(),
                command: command.to_owned(),
            })
        };
        for command in [
            "smtp -v",
            "smtp -v -v",
            "smtp -vv",
            "/usr/lib/postfix/sbin/smtp -o a=b -v",
            "smtp -o { a = b -c } -v",
            "smtp -oa=b -Dv",
        ] {
            assert!(verbose(command), "{command}");
        }
        for command in [
            "smtp",
            "smtp -o -v",
            "smtp -o v=-v",
            "smtp -ov=x",
            "smtp -o { a = -v }",
            "-v",
        ] {
            assert!(!verbose(command), "{command}");
        }
    }
}
