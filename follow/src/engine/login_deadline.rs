//! How long a login may take.

use std::time::Duration;

use super::{EngineError, EngineErrorKind};

/// The longest deadline of a login.
const MAX: Duration = Duration::from_secs(10);

/// The deadline of the next login: `hang`, and twice as long after each login that took longer. When thousands of hosts return to
/// a database at once, it needs longer than `hang` for all of them, and would never log in one that has to give up and
/// begin again (benches/fleet.md).
pub(super) struct LoginDeadline {
    hang: Duration,
    next: Duration,
}

impl LoginDeadline {
    /// Starts with the setting `hang`.
    pub(super) const fn new(hang: Duration) -> Self {
        Self { hang, next: hang }
    }

    /// Returns the deadline of the next login.
    pub(super) const fn get(&self) -> Duration {
        self.next
    }

    /// Takes the result of a login.
    pub(super) fn record<T>(&mut self, result: &Result<T, EngineError>) {
        self.next = match result {
            Err(error) if matches!(error.kind, EngineErrorKind::Hang(_)) => {
                self.next.saturating_mul(2).min(self.hang.max(MAX))
            }
            _ => self.hang,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;
    use std::time::Duration;

    use super::LoginDeadline;
    use crate::engine::any::AnyEngine;
    use crate::engine::{Engine, EngineErrorKind};
    use crate::settings::Settings;

    #[test]
    fn the_deadline_of_a_login_doubles_up_to_ten_seconds_and_is_that_of_the_settings_after_any_other_result()
    {
        let hangs = || Err::<(), _>(EngineErrorKind::Hang("2s".to_owned()).at("db.test"));
        for (hang, expected) in [(2, [2, 4, 8, 10, 10]), (7, [7, 10, 10, 10, 10]), (60, [60; 5])] {
            let mut deadline = LoginDeadline::new(Duration::from_secs(hang));
            for other in [Ok(()), Err(EngineErrorKind::ReadOnly.at("db.test"))] {
                for seconds in expected {
                    assert_eq!(deadline.get(), Duration::from_secs(seconds));
                    deadline.record(&hangs());
                }
                deadline.record(&other);
            }
        }
    }

    #[tokio::test]
    async fn each_database_has_longer_for_a_login_after_one_that_hangs() {
        // The kernel accepts connections, and nothing answers.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for scheme in ["postgres", "mysql"] {
            let text = format!(
                "source = \"{scheme}://u@127.0.0.1:{port}/mail\"\ntls = \"off\"\nhang = \"100ms\"\n[queries]\nrelay = \"SELECT k, v FROM t\"\n"
            );
            let settings = Settings::parse(Path::new("/follow.toml"), text.as_bytes()).unwrap();
            let mut engine = AnyEngine::new(&settings).unwrap();
            for expected in ["100ms", "200ms", "400ms"] {
                let error = engine.connect().await.err().unwrap();
                assert_eq!(error.kind, EngineErrorKind::Hang(expected.to_owned()), "{scheme}");
            }
        }
    }
}
