//! `postmapd probe`: whether the relays work, as Postfix would use them, without sending mail.
//!
//! What is tried comes from the files and the environment, as for `query`: the next hops of `relayhost`, their policies of
//! `tls`, and the login that `sasl` answers for the sender, the host or the next hop.
//!
//! Limits: [`MAX_CONCURRENT`] relays at once, and one connection at a time to each. A relay that cannot be reached is tried once,
//! and not again with each login.

mod job;
mod postfix;
mod progress;
mod report;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::tables::Tables;
use super::{EX_TEMPFAIL, EX_USAGE, Error, OutputFormat, exit_code, print_environment, print_message};
use crate::config::options::Options;
use crate::diagnostics::{Code, Finding, Place, Severity};
use crate::lookup::address::{self, Delimiters, LookupKeys};
use crate::lookup::nexthop;
use crate::os::printable::printable;
use crate::probe::{self, Authorities, ClientSettings, Failure, Outcome, Resolver};
use job::Job;
use postfix::LivePostfix;
use progress::ProgressLine;
use report::Report;

/// The maximum number of relays that are tried at once.
const MAX_CONCURRENT: usize = 16;

/// Try the relays as Postfix would use them, without sending mail.
#[derive(Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["senders", "all", "next_hop"]),
    after_help = "\
For each sender: the next hop from the relay map or the default relay, its servers by DNS (MX records for a name without \
brackets), TCP, implicit TLS or STARTTLS, the certificate as the map tls demands, EHLO, the login with the sender's \
credentials, QUIT. A list of next hops is tried in order, up to the first that works. A certificate that expires in fewer than \
21 days causes a warning.

A password is sent only if the TLS policy is met, and without TLS only to loopback. It is in no output; of the reply to a login, \
only the codes are. A refused login is not repeated at other servers of the relay. A relay with credentials that offers no AUTH \
fails, because Postfix would send without authenticating.

If postconf(1) exists, smtp_helo_name, smtp_host_lookup and inet_protocols apply, and standard error lists the settings of main.cf \
and master.cf with which Postfix would do something else; postmapd postconf --check reports more.

Not tried: DANE, client certificates, protocols=, ciphers= and exclude= of a policy, mechanisms other than PLAIN and LOGIN, TLS \
before 1.2, revoked certificates, whether the relay accepts the sender's address.

--format json prints [{\"sender\": \"@example.com\" or null, \"nexthop\": \"[relay.example.net]:587\" or null, \"host\": \
\"relay.example.net\", \"address\": \"192.0.2.1\" or null, \"connected\": true, \"tls\": \"TLSv1.3\" or null, \"verified\": \
true, false or null, \"policy\": \"secure match=nexthop servername=hostname\", \"auth\": [\"PLAIN\", \"LOGIN\"], \"login\": \
\"accepted\", \"refused\" or \"not_tried\", \"ok\": true, \"error\": \"REASON\" or null, \"user\": \"relay_user\" or null, \
\"auth_before_tls\": [], \"days_left\": 80 or null, \"warnings\": [], \"attempts\": [{\"host\", \"address\", \"error\"}], \
\"other_senders\": 0}]. verified is null if the policy demands no certificate; attempts are those that failed before.

Exit codes: 0 all work, 1 a relay refused or failed, 75 none did, but a relay could not be tried (no answer from DNS, an invalid \
entry, DANE, a sender without a next hop), 2 usage or an invalid setting.

Examples:
  postmapd probe --all
  postmapd probe @example.com boss@example.org
  postmapd probe --next-hop '[relay.example.net]:587' --ca /etc/ssl/private-ca.pem --format json"
)]
pub(super) struct Probe {
    #[command(flatten)]
    options: Options,

    /// The senders: an address, @DOMAIN or <>
    #[arg(value_name = "SENDER")]
    senders: Vec<OsString>,

    /// Try the relays of all senders and the default relay, each relay once for each login
    #[arg(long)]
    all: bool,

    /// Try one next hop, with the login for its host or for itself
    #[arg(long, value_name = "HOP")]
    next_hop: Option<OsString>,

    /// Trust the certificate authorities of this PEM file, as smtp_tls_CAfile, in place of those of the system (or of the variables SSL_CERT_FILE
    /// and SSL_CERT_DIR)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Time limit in seconds for a relay with all its servers, DNS included (1 to 600)
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,

    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

impl Probe {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        self.validate()?;
        let authorities = match &self.ca {
            None => Authorities::of_system(),
            Some(file) => Authorities::from_files(std::slice::from_ref(file))
                .map_err(|error| usage("--ca", &format!("no certificate authorities: {error}")))?,
        };
        let tables = Tables::read(&self.options)?;
        let jobs = self.jobs(&tables);
        if tables.sources.environment.is_uncertain() {
            print_environment(&tables.sources);
        }
        if jobs.is_empty() {
            print_message("no sender has a relay");
        }
        let postfix = LivePostfix::read();
        let options = probe::Options {
            timeout: Duration::from_secs(self.timeout),
            authorities,
            resolver: Resolver::of_system(),
            client: postfix
                .as_ref()
                .map_or_else(ClientSettings::default, LivePostfix::client_settings),
        };
        let mut results = Results::default();
        let mut report = Report::new(self.format, io::stdout().lock());
        let printed = try_all(&jobs, &tables, &options, |job, outcome| {
            results.add(job, outcome, postfix.as_ref());
            report.add(job, outcome)
        });
        printed
            .and_then(|()| report.finish())
            .map_err(Error::system("cannot print the results"))?;
        if jobs.iter().any(Job::is_unknown) {
            for finding in tables.findings.with_severity(Severity::Error) {
                print_message(finding);
            }
        }
        for note in &results.notes {
            print_message(note);
        }
        Ok(results.exit_code())
    }

    fn validate(&self) -> Result<(), Error> {
        for sender in &self.senders {
            if !LookupKeys::of(sender.as_bytes(), &Delimiters::default()).is_sender() {
                return Err(usage(
                    "SENDER",
                    "this is no sender: write USER@DOMAIN, @DOMAIN or '<>', and a relay with --next-hop",
                ));
            }
        }
        if let Some(next_hop) = &self.next_hop {
            nexthop::validate(next_hop.as_bytes())
                .map_err(|error| usage("--next-hop", &format!("this is no next hop: {error}")))?;
        }
        Ok(())
    }

    fn jobs(&self, tables: &Tables) -> Vec<Job> {
        let snapshot = &tables.snapshot;
        if let Some(next_hop) = &self.next_hop {
            for element in nexthop::elements(next_hop.as_bytes()) {
                let mut folded = Vec::with_capacity(element.len());
                address::fold_into(element, &mut folded);
                if !snapshot.relay_tls.has_next_hop(&folded) {
                    print_message(format_args!(
                        "no sender has the next hop {}, so the map tls does not answer for it; the policy that it would have \
                         is tried",
                        printable(element)
                    ));
                }
            }
            return vec![Job::of_next_hop(next_hop.as_bytes(), snapshot)];
        }
        if self.all {
            return Job::all(snapshot);
        }
        let senders = self.senders.iter();
        senders
            .map(|sender| Job::of_sender(sender.as_bytes(), snapshot))
            .collect()
    }
}

fn usage(argument: &'static str, message: &str) -> Error {
    let finding = Finding::new(Code::BadArgument, Place::Setting(argument)).message(message.to_owned());
    Error::from_finding(finding, EX_USAGE)
}

/// Tries all jobs, and reports each outcome in the order of the jobs.
fn try_all(
    jobs: &[Job],
    tables: &Tables,
    options: &probe::Options,
    mut report: impl FnMut(&Job, &Outcome) -> io::Result<()>,
) -> io::Result<()> {
    let groups = job::by_relay(jobs);
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let progress = ProgressLine::new(jobs.len());
    thread::scope(|scope| {
        for _ in 0..groups.len().min(MAX_CONCURRENT) {
            let sender = sender.clone();
            let (groups, next) = (&groups, &next);
            scope.spawn(move || {
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut unreachable = None;
                    for (index, job) in group {
                        let outcome = unreachable.clone().unwrap_or_else(|| run(job, tables, options));
                        unreachable = Some(outcome.clone()).filter(Outcome::is_unreachable);
                        // The receiver is gone if the output is closed.
                        if sender.send((*index, outcome)).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        let mut finished: Vec<Option<Outcome>> = vec![None; jobs.len()];
        let mut reported = 0;
        progress.show(0);
        for (number, (index, outcome)) in receiver.into_iter().enumerate() {
            if let Some(slot) = finished.get_mut(index) {
                *slot = Some(outcome);
            }
            progress.clear();
            while let (Some(job), Some(Some(outcome))) = (jobs.get(reported), finished.get(reported)) {
                report(job, outcome)?;
                reported += 1;
            }
            progress.show(number + 1);
        }
        progress.clear();
        Ok(())
    })
}

/// Tries one job. A panic ends this trial and no other.
fn run(job: &Job, tables: &Tables, options: &probe::Options) -> Outcome {
    let trial = AssertUnwindSafe(|| job.run(&tables.snapshot, options));
    catch_unwind(trial).unwrap_or_else(|_| {
        Outcome::not_tried(
            job.next_hop_list(),
            "an internal error (please report it)".to_owned(),
        )
    })
}

/// The results of all jobs.
#[derive(Default)]
struct Results {
    has_failed: bool,
    has_not_tried: bool,
    /// What Postfix's settings would make of them, each note once.
    notes: BTreeSet<String>,
}

impl Results {
    fn add(&mut self, job: &Job, outcome: &Outcome, postfix: Option<&LivePostfix>) {
        match &outcome.failure {
            None => {}
            Some(Failure::Failed(_)) => self.has_failed = true,
            Some(Failure::NotTried(_)) => self.has_not_tried = true,
        }
        if let Some(postfix) = postfix {
            self.notes.extend(postfix.notes(job, outcome));
        }
    }

    fn exit_code(&self) -> ExitCode {
        if self.has_not_tried && !self.has_failed {
            return ExitCode::from(EX_TEMPFAIL);
        }
        exit_code(!self.has_failed)
    }
}
