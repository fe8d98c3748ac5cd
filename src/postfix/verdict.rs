//! What is said about one value of a parameter: what is wrong, and what fixes it.

use std::borrow::Cow;

use super::command::ServiceName;
use super::live::{Live, Service};
use super::reach::Reach;
use crate::diagnostics::Code;

/// The daemon that reads a value.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The Postfix.
    pub live: &'a Live,
    /// The service.
    pub service: &'a Service,
    /// The server that it should ask.
    pub reach: &'a Reach,
}

impl Site<'_> {
    /// What counts for the service.
    pub(crate) fn value(&self, parameter: &str) -> &str {
        self.live.value(&self.service.id, parameter)
    }
}

/// Something that is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Its kind.
    pub code: Code,
    /// What is wrong, without a quotation.
    pub message: Cow<'static, str>,
    /// What fixes it.
    pub cure: Cure,
}

/// What fixes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cure {
    /// This value.
    Value(Cow<'static, str>),
    /// This value, at the very place where the present one stands: another place has a weaker one.
    Here(Cow<'static, str>),
    /// The default.
    Unset,
    /// No chroot for this service.
    Unjail(ServiceName),
    /// What the administrator has to decide: no command does it.
    Advice(Cow<'static, str>),
}

impl Verdict {
    /// Something of this kind.
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>, cure: Cure) -> Self {
        Self {
            code,
            message: message.into(),
            cure,
        }
    }
}
