//! What is tried: a list of next hops with their TLS policies, and the login of a sender.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::super::relay::list;
use super::super::relay::tls::HopTls;
use crate::lookup::address::{LookupKeys, NULL_SENDER};
use crate::lookup::nexthop;
use crate::lookup::routing::Routing;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::tls_policy::Mode;
use crate::os::secret::Secret;
use crate::probe::{self, Login, NextHop, Options, Outcome};
use crate::protocol::answer::Answer;

/// The login that the sender's key has.
enum SenderLogin {
    /// The host and the next hop decide.
    None,
    Found(Secret),
    CannotTell(String),
}

/// A digest that is different for different logins.
type LoginDigest = Option<[u8; 32]>;

impl SenderLogin {
    fn digest(&self) -> LoginDigest {
        match self {
            Self::None => None,
            Self::Found(login) => Some(Sha256::digest(login.expose()).into()),
            Self::CannotTell(reason) => Some(Sha256::digest(reason).into()),
        }
    }
}

/// A relay to try, for one or more senders with the same login.
pub(super) struct Job {
    /// The first sender; `None` for a next hop without a sender.
    pub(super) sender: Option<Vec<u8>>,
    /// How many other senders have the same relay and login.
    pub(super) other_senders: usize,
    /// The next hops as written, or why there are none.
    pub(super) list: Result<Vec<u8>, String>,
    /// The service of master.cf that delivers, where the map `transport` is used.
    pub(super) service: Option<String>,
    next_hops: Result<Vec<NextHop>, String>,
    login: SenderLogin,
    /// Whether a file has an error that matters here.
    is_unknown: bool,
}

impl Job {
    /// Returns the job of a sender.
    pub(super) fn of_sender(sender: &[u8], snapshot: &Snapshot) -> Self {
        let mut keys = LookupKeys::default();
        let (list, is_unknown) = match snapshot.next_hop_for(sender, &mut keys) {
            Answer::Found(list) => (Ok(list.expose().to_vec()), false),
            Answer::NotFound => (
                Err(if snapshot.routing == Routing::MainCf {
                    "the next hop is in main.cf: name it with --next-hop"
                } else {
                    "there is no next hop: Postfix delivers directly"
                }
                .to_owned()),
                false,
            ),
            Answer::CannotTell(reason) => (Err(format!("the next hop is unknown: {reason}")), true),
        };
        let login = if sender == NULL_SENDER {
            // Postfix queries no login for the null sender.
            SenderLogin::None
        } else {
            match snapshot.login_for(sender, &mut keys) {
                Answer::Found(login) => SenderLogin::Found(login.expose().to_vec().into()),
                Answer::NotFound => SenderLogin::None,
                Answer::CannotTell(reason) => SenderLogin::CannotTell(reason.to_string()),
            }
        };
        Self::new(Some(sender.to_vec()), list, login, is_unknown, snapshot)
    }

    /// Returns the job of a next hop, or of a list of them.
    pub(super) fn of_next_hop(list: &[u8], snapshot: &Snapshot) -> Self {
        Self::new(None, Ok(list.to_vec()), SenderLogin::None, false, snapshot)
    }

    /// Returns the jobs of all senders that have a next hop, and of the default relay. Senders with the same relay and login
    /// are one job.
    pub(super) fn all(snapshot: &Snapshot) -> Vec<Self> {
        let tables: [&Arc<_>; 2] = [&snapshot.relay_map, &snapshot.credentials];
        let mut jobs: Vec<Self> = Vec::new();
        let mut positions: HashMap<(Vec<u8>, LoginDigest), usize> = HashMap::new();
        let of_senders = list::senders(tables)
            .into_iter()
            .map(|sender| Self::of_sender(&sender, snapshot))
            .filter(|job| job.list.is_ok() || job.is_unknown);
        let defaults = snapshot.default.next_hops();
        let of_defaults = defaults.map(|(list, _)| Self::of_next_hop(list, snapshot));
        for job in of_senders.chain(of_defaults) {
            let Ok(list) = &job.list else {
                jobs.push(job);
                continue;
            };
            match positions.entry((list.clone(), job.login.digest())) {
                Entry::Occupied(same) => {
                    if let Some(same) = jobs.get_mut(*same.get()) {
                        same.other_senders += usize::from(job.sender.is_some());
                    }
                    continue;
                }
                Entry::Vacant(vacant) => vacant.insert(jobs.len()),
            };
            jobs.push(job);
        }
        jobs
    }

    fn new(
        sender: Option<Vec<u8>>,
        list: Result<Vec<u8>, String>,
        login: SenderLogin,
        is_unknown: bool,
        snapshot: &Snapshot,
    ) -> Self {
        let next_hops = list.clone().and_then(|list| {
            let tls: Result<Vec<HopTls>, _> = if sender.is_some() {
                HopTls::find_all(&list, snapshot)
            } else {
                nexthop::elements(&list)
                    .map(|next_hop| HopTls::find(next_hop, snapshot))
                    .collect()
            };
            let tls = tls.map_err(|reason| format!("the TLS policy is unknown: {reason}"))?;
            let next_hops = tls.into_iter().map(|tls| NextHop {
                text: tls.next_hop,
                mode: tls.mode,
                policy: tls.policy,
            });
            Ok(next_hops.collect())
        });
        let service = list.as_ref().ok().and_then(|list| {
            let service = snapshot.relay_tls.service(list).ok()?;
            Some(service.as_str().to_owned())
        });
        Self {
            sender,
            other_senders: 0,
            service,
            is_unknown: is_unknown
                || (list.is_ok() && next_hops.is_err())
                || matches!(login, SenderLogin::CannotTell(_)),
            list,
            next_hops,
            login,
        }
    }

    /// Whether something is unknown because of an error in a file.
    pub(super) fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Returns the mode of the first next hop.
    pub(super) fn mode(&self) -> Option<Mode> {
        let next_hops = self.next_hops.as_ref().ok()?;
        next_hops.first().map(|next_hop| next_hop.mode)
    }

    /// Returns the next hops as written; empty if they are unknown.
    pub(super) fn next_hop_list(&self) -> &[u8] {
        self.list.as_deref().unwrap_or_default()
    }

    /// Tries it.
    pub(super) fn run(&self, snapshot: &Snapshot, options: &Options) -> Outcome {
        match &self.next_hops {
            Ok(next_hops) => probe::probe(
                next_hops,
                &|host, next_hop| self.find_login(host, next_hop, snapshot),
                options,
            ),
            Err(reason) => Outcome::not_tried(self.next_hop_list(), reason.clone()),
        }
    }

    /// Returns the login that Postfix gets: by the sender, then by the host of the server, then by the next hop.
    fn find_login(&self, host: &[u8], next_hop: &[u8], snapshot: &Snapshot) -> Login {
        match &self.login {
            SenderLogin::Found(login) => return Login::Found(login.clone()),
            SenderLogin::CannotTell(reason) => return Login::CannotTell(reason.clone()),
            SenderLogin::None => {}
        }
        let mut keys = LookupKeys::default();
        for key in [host, next_hop] {
            match snapshot.login_for(key, &mut keys) {
                Answer::Found(login) => return Login::Found(login.expose().to_vec().into()),
                Answer::NotFound => {}
                Answer::CannotTell(reason) => return Login::CannotTell(reason.to_string()),
            }
        }
        Login::None
    }
}

/// Returns the jobs of each relay with their positions, so that each relay has one connection at a time.
pub(super) fn by_relay(jobs: &[Job]) -> Vec<Vec<(usize, &Job)>> {
    let mut groups: Vec<Vec<(usize, &Job)>> = Vec::new();
    let mut by_list: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (index, job) in jobs.iter().enumerate() {
        let group = match &job.list {
            Ok(list) => *by_list.entry(list).or_insert(groups.len()),
            Err(_) => groups.len(),
        };
        match groups.get_mut(group) {
            Some(group) => group.push((index, job)),
            None => groups.push(vec![(index, job)]),
        }
    }
    groups
}
