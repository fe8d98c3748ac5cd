//! What is wrong with a value of a parameter, and its fix.

use std::borrow::Cow;

use super::addressing::Addressing;
use super::command::ServiceName;
use super::config::{PostfixConfig, Service};
use crate::diagnostics::Code;

/// A service that reads a value.
#[derive(Clone, Copy)]
pub(crate) struct ServiceContext<'a> {
    /// The configuration of the Postfix.
    pub config: &'a PostfixConfig,
    /// The service in master.cf.
    pub service: &'a Service,
    /// How this Postfix reaches the server.
    pub addressing: &'a Addressing,
    /// What the service delivers.
    pub duty: Duty,
}

/// What a service delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Any mail, or it delivers none.
    Any,
    /// Only mail to relays with STARTTLS.
    Starttls,
    /// Only mail to relays with implicit TLS.
    Implicit,
}

impl ServiceContext<'_> {
    /// Returns the value that takes effect for the service.
    pub(crate) fn value(&self, parameter: &str) -> &str {
        self.config.value(&self.service.id, parameter)
    }
}

/// Something that is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    /// The code of the finding.
    pub code: Code,
    /// What is wrong. Never quotes the value.
    pub message: Cow<'static, str>,
    /// What fixes it.
    pub fix: Fix,
}

/// What fixes an issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fix {
    /// Set this value.
    Value(Cow<'static, str>),
    /// Set this value where the present one is written, in main.cf or master.cf, because the other place has a weaker
    /// one.
    ValueInPlace(Cow<'static, str>),
    /// Restore the default.
    Unset,
    /// Disable chroot for this service.
    DisableChroot(ServiceName),
    /// A decision of the administrator, which no command can make.
    Advice(Cow<'static, str>),
}

impl Issue {
    /// Creates an issue.
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>, fix: Fix) -> Self {
        Self {
            code,
            message: message.into(),
            fix,
        }
    }
}
