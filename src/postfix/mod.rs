//! Postfix's side: the settings that Postfix needs for postmapd, and the check of an installed Postfix against them.
//!
//! - [`command`]: `postconf` commands, quoted for a shell
//! - [`program`]: runs a program of Postfix with limits on time and output
//! - [`config`]: the configuration of an installed Postfix, read through its own postconf
//! - [`addressing`]: how main.cf names the server, and whether a table in main.cf belongs to it
//! - [`requirements`]: the parameters that Postfix needs: the single list that all output and checks derive from
//! - [`stricter`]: keeps values of main.cf that are stricter than the recommended ones
//! - [`relay_domains`]: the service that delivers mail to `relay_domains`, and must not log in
//! - [`relay_services`]: the services of master.cf that deliver to relays
//! - [`render`]: the requirements as text to paste
//! - [`table_list`]: evaluates the tables of a parameter against the required one
//! - [`issue`]: what is wrong with a value, and its fix
//! - [`evaluate`]: evaluates one value of a required parameter
//! - [`conflicts`]: parameters that postmapd does not need, and that defeat it or leak a password if they are set
//! - [`sasl_plugins`]: the plug-ins of Cyrus SASL on this machine
//! - [`service_limits`]: limits by the name of a service that do not apply to the services for relays
//! - [`verbose`]: services that write passwords into the log
//! - [`check`]: checks an installed Postfix as a whole, and reports each finding with the command that fixes it
//!
//! Nothing here changes a Postfix. No finding quotes a value, because a value may be a password
//! (`static:user:password`).

pub(crate) mod addressing;
pub(crate) mod check;
pub(crate) mod command;
pub(crate) mod config;
mod conflicts;
mod evaluate;
pub(crate) mod import;
mod issue;
mod program;
pub(crate) mod relay_domains;
pub(crate) mod relay_services;
pub(crate) mod render;
pub(crate) mod requirements;
mod sasl_plugins;
mod service_limits;
pub(crate) mod stricter;
pub(crate) mod table_list;
mod verbose;
