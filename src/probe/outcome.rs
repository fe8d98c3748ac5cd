//! What a trial of a relay found.

use super::{NextHop, shown};
use crate::lookup::nexthop;

/// A certificate that expires in fewer days causes a warning.
pub(crate) const EXPIRY_WARNING_DAYS: i64 = 21;

/// What became of the login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LoginResult {
    /// The relay accepted it.
    Accepted,
    /// The relay refused it.
    Refused,
    /// No password was sent.
    #[default]
    NotTried,
}

/// Why a relay does not work. The text never contains a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The relay refused, or does not work.
    Failed(String),
    /// Whether the relay works could not be tried.
    NotTried(String),
}

impl Failure {
    /// Returns the reason.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Failed(text) | Self::NotTried(text) => text,
        }
    }
}

/// A server, or a next hop, that did not work, before the one of the outcome.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The name of the server.
    pub host: String,
    /// Its address, if it is known.
    pub address: Option<String>,
    /// Why it did not work.
    pub error: String,
    /// Whether there was a TCP connection.
    connected: bool,
}

impl Attempt {
    /// Returns the attempt of an outcome.
    pub(super) fn of(outcome: &Outcome) -> Self {
        Self {
            host: outcome.host.clone(),
            address: outcome.address.clone(),
            connected: outcome.connected,
            error: outcome
                .failure
                .as_ref()
                .map_or_else(String::new, |failure| failure.text().to_owned()),
        }
    }
}

/// What a trial of a relay found, up to where it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// The name of the server.
    pub host: String,
    /// The address of the server, if it is known.
    pub address: Option<String>,
    /// Whether there was a TCP connection.
    pub connected: bool,
    /// The version of TLS, if TLS was used.
    pub tls: Option<&'static str>,
    /// Whether the certificate meets the policy. `None` if the policy demands no certificate, or there was none.
    pub verified: Option<bool>,
    /// The TLS policy.
    pub policy: String,
    /// The days until the certificate expires.
    pub days_left: Option<i64>,
    /// The mechanisms that the relay offers before TLS.
    pub auth_before_tls: Vec<String>,
    /// The mechanisms that the relay offers where Postfix would log in.
    pub auth: Vec<String>,
    /// The user that Postfix logs in as.
    pub user: Option<String>,
    /// What became of the login.
    pub login: LoginResult,
    /// Why the relay does not work; `None` if it does.
    pub failure: Option<Failure>,
    /// What works and is remarkable.
    pub warnings: Vec<String>,
    /// The servers and next hops that were tried before and did not work.
    pub attempts: Vec<Attempt>,
}

impl Outcome {
    /// Creates the outcome of a next hop of which nothing is known yet.
    pub(super) fn new(next_hop: &NextHop) -> Self {
        Self {
            host: host(&next_hop.text),
            policy: shown(&next_hop.policy),
            ..Self::default()
        }
    }

    /// Creates the outcome of next hops that could not be tried at all; `list` is empty if they are unknown.
    pub(crate) fn not_tried(list: &[u8], reason: String) -> Self {
        Self {
            host: nexthop::elements(list).next().map_or_else(String::new, host),
            failure: Some(Failure::NotTried(reason)),
            ..Self::default()
        }
    }

    /// Whether no server was reached, so that the outcome is the same with any login.
    pub(crate) fn is_unreachable(&self) -> bool {
        let was_connected = self.connected || self.attempts.iter().any(|attempt| attempt.connected);
        self.failure.is_some() && !was_connected
    }

    /// Adds the reason why the relay does not work.
    pub(super) fn failed(mut self, failure: Failure) -> Self {
        self.failure = Some(failure);
        self
    }
}

/// Returns the host of a next hop, as it can be shown.
fn host(next_hop: &[u8]) -> String {
    let (host, _) = nexthop::host_and_port(next_hop);
    shown(nexthop::server_name(next_hop).unwrap_or(host))
}
