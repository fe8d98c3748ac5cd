//! The results as text, one line for each relay, or as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::super::{OutputFormat, count_of};
use super::job::Job;
use crate::os::printable::{enumeration, json, printable};
use crate::probe::{Attempt, Failure, LoginResult, Outcome};

/// Prints results.
pub(super) struct Report<W> {
    format: OutputFormat,
    out: W,
    is_first: bool,
}

impl<W: Write> Report<W> {
    pub(super) fn new(format: OutputFormat, out: W) -> Self {
        Self {
            format,
            out,
            is_first: true,
        }
    }

    /// Prints one result.
    pub(super) fn add(&mut self, job: &Job, outcome: &Outcome) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => writeln!(self.out, "{}", text(job, outcome))?,
            OutputFormat::Json => {
                let before = if self.is_first { "[\n  " } else { ",\n  " };
                self.out.write_all(before.as_bytes())?;
                json::write(&OutcomeObject::new(job, outcome), &mut self.out)?;
            }
        }
        self.is_first = false;
        self.out.flush()
    }

    /// Prints the end.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.format == OutputFormat::Json {
            let end = if self.is_first { "[]\n" } else { "\n]\n" };
            self.out.write_all(end.as_bytes())?;
        }
        self.out.flush()
    }
}

/// Returns the line of a result: the result, the sender, the next hop, and what was found.
fn text(job: &Job, outcome: &Outcome) -> String {
    let sender = job.sender.as_ref().map(|sender| match job.other_senders {
        0 => printable(sender),
        others => format!("{} and {}", printable(sender), count_of(others, "other sender")),
    });
    let next_hop = job.list.as_ref().ok().map(|list| printable(list));
    let relay: Vec<String> = sender.into_iter().chain(next_hop).collect();
    let (result, error) = match &outcome.failure {
        None => ("ok", None),
        Some(Failure::Failed(reason)) => ("failed", Some(reason.clone())),
        Some(Failure::NotTried(reason)) => ("not tried", Some(reason.clone())),
    };
    let warnings = outcome
        .warnings
        .iter()
        .map(|warning| format!("warning: {warning}"));
    let attempts = outcome.attempts.iter().map(attempt);
    let found = outcome.connected.then(|| found(outcome));
    let parts: Vec<String> = error
        .into_iter()
        .chain(found)
        .chain(warnings)
        .chain(attempts)
        .collect();
    format!("{result:9}  {}  {}", relay.join("  "), parts.join("; "))
}

fn attempt(attempt: &Attempt) -> String {
    format!(
        "before: {}: {}",
        server(&attempt.host, attempt.address.as_deref()),
        attempt.error
    )
}

fn server(host: &str, address: Option<&str>) -> String {
    match address {
        Some(address) if address != host => format!("{host}[{address}]"),
        _ => host.to_owned(),
    }
}

/// Returns what was found at a server, up to where the trial ended.
fn found(outcome: &Outcome) -> String {
    let mut parts = vec![
        server(&outcome.host, outcome.address.as_deref()),
        outcome.tls.unwrap_or("no TLS").to_owned(),
    ];
    if outcome.tls.is_some() {
        let verified = match outcome.verified {
            Some(true) => "certificate verified",
            Some(false) => "certificate not verified",
            None => "certificate not verified, as the policy allows",
        };
        parts.push(match outcome.days_left {
            Some(days @ 0..) => format!("{verified}, valid for {days} days"),
            _ => verified.to_owned(),
        });
    }
    if !outcome.auth.is_empty() {
        parts.push(format!("AUTH {}", outcome.auth.join(" ")));
    }
    if outcome.failure.is_none() {
        parts.push(match (&outcome.user, outcome.login) {
            (Some(user), LoginResult::Accepted) => format!("logged in as {user}"),
            _ => "no login: Postfix sends without authenticating".to_owned(),
        });
    }
    if outcome.tls.is_some() && !outcome.auth_before_tls.is_empty() {
        parts.push(format!(
            "before TLS AUTH {}",
            enumeration(&outcome.auth_before_tls, "and")
        ));
    }
    parts.join(", ")
}

/// A result in JSON. Names and meaning are an interface.
#[derive(Serialize)]
struct OutcomeObject<'a> {
    sender: Option<String>,
    nexthop: Option<String>,
    host: &'a str,
    address: Option<&'a str>,
    connected: bool,
    tls: Option<&'a str>,
    verified: Option<bool>,
    policy: &'a str,
    auth: &'a [String],
    login: &'static str,
    ok: bool,
    error: Option<&'a str>,
    user: Option<&'a str>,
    auth_before_tls: &'a [String],
    days_left: Option<i64>,
    warnings: &'a [String],
    attempts: Vec<AttemptObject<'a>>,
    other_senders: usize,
}

#[derive(Serialize)]
struct AttemptObject<'a> {
    host: &'a str,
    address: Option<&'a str>,
    error: &'a str,
}

impl<'a> OutcomeObject<'a> {
    fn new(job: &Job, outcome: &'a Outcome) -> Self {
        let lossy = |text: &Vec<u8>| String::from_utf8_lossy(text).into_owned();
        let attempts = outcome.attempts.iter().map(|attempt| AttemptObject {
            host: &attempt.host,
            address: attempt.address.as_deref(),
            error: &attempt.error,
        });
        Self {
            sender: job.sender.as_ref().map(lossy),
            nexthop: job.list.as_ref().ok().map(lossy),
            host: &outcome.host,
            address: outcome.address.as_deref(),
            connected: outcome.connected,
            tls: outcome.tls,
            verified: outcome.verified,
            policy: &outcome.policy,
            auth: &outcome.auth,
            login: match outcome.login {
                LoginResult::Accepted => "accepted",
                LoginResult::Refused => "refused",
                LoginResult::NotTried => "not_tried",
            },
            ok: outcome.failure.is_none(),
            error: outcome.failure.as_ref().map(Failure::text),
            user: outcome.user.as_deref(),
            auth_before_tls: &outcome.auth_before_tls,
            days_left: outcome.days_left,
            warnings: &outcome.warnings,
            attempts: attempts.collect(),
            other_senders: job.other_senders,
        }
    }
}
