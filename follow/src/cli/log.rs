//! The options of the log. Its formats are those of postmapd ([`postmapd::os::log`]).

use clap::Args;
use postmapd::os::log::{self, LogFilter, LogFormat};

/// What is logged, and how.
#[derive(Args)]
pub(super) struct LogOptions {
    /// The level of the log on standard error: off, error, warn, info, debug or trace [env: POSTMAPD_FOLLOW_LOG_LEVEL]
    #[arg(
        long,
        value_name = "LEVEL",
        env = "POSTMAPD_FOLLOW_LOG_LEVEL",
        hide_env = true,
        default_value = "info"
    )]
    log_level: LogFilter,

    /// The format of the log [env: POSTMAPD_FOLLOW_LOG_FORMAT] [default: journald if journald reads standard error, else text]
    #[arg(
        long,
        value_name = "FORMAT",
        env = "POSTMAPD_FOLLOW_LOG_FORMAT",
        hide_env = true,
        ignore_case = true,
        hide_possible_values = false
    )]
    log_format: Option<LogFormat>,
}

impl LogOptions {
    /// Starts logging, for the life of the process, and returns the format.
    pub(super) fn init(&self) -> LogFormat {
        let format = self.log_format.unwrap_or_else(LogFormat::detect);
        log::init(self.log_level.clone(), format);
        format
    }
}
