//! The load: many connections, driven by one thread that does nothing else.
//!
//! **Closed loop.** Each connection has so many requests in flight and asks again when a reply has come, as a Postfix
//! process does (with one). A server that stalls is then asked less, and a stall of a second is one slow reply on each
//! connection: right for what N processes would see, and silent about the mail that arrives meanwhile.
//!
//! **Open loop.** Requests are due at fixed times, whatever the server does, and a latency counts from the time at which
//! the request was due, not from when a connection was free to send it on. So a stall shows in every request that should
//! have been sent during it (what hides that is known as coordinated omission).
//!
//! The generator can be too slow, too. Where a request was due, a connection was free, and it was sent more than
//! [`LATE`] later, that is the generator's fault and is counted ([`Run::late`]); so is the processor time that it used,
//! and that it waited for a processor ([`Run::own`]).
//!
//! A connection on which anything is in doubt (not the protocol, more bytes than were asked for, no reply in time) is
//! closed and opened again, which is what Postfix should do and sometimes does.
//!
//! Limits: one thread; the requests of a connection that is lost are not asked again; whatever a server sends after
//! the last request was answered is looked for once, not waited for.

mod asking;
mod connecting;
mod ending;
mod replies;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use thiserror::Error;

use super::Server;
use super::connection::{Connection, State};
use super::cpu::{Spent, Used};
use super::latency::Latency;
use super::number::{float, nanos, ratio, whole};
use super::tally::{Fault, Outcome, Tally};
use super::target::Place;

/// How late a request may be sent before the generator is to blame, in nanoseconds.
pub(crate) const LATE: u64 = 1_000_000;
/// How often connections are looked after that nothing happens on, in nanoseconds.
const ROUNDS: u64 = 5_000_000;
/// How often somebody who watches is told, in nanoseconds.
const PROGRESS: u64 = 200_000_000;
const EVENTS: usize = 256;

/// What to do to a server.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// How many requests are in flight on each, at most.
    pub pipeline: usize,
    /// Open loop: requests a second. Otherwise as many as come back.
    pub rate: Option<f64>,
    /// How long to ask before anything counts.
    pub warm_up: Duration,
    /// How long to ask, at most.
    pub duration: Option<Duration>,
    /// How many requests to make, at most.
    pub count: Option<u64>,
    /// How long to wait for a reply.
    pub timeout: Duration,
}

/// Why there is no measurement.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// Nobody is there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// Nor does it refuse.
    #[error("no connection within {0:?} (--timeout); the server accepts too few, or none")]
    NotInTime(Duration),
    /// The system refuses something.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// A wrong reply. Only kinds: a value may be a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Which question.
    pub question: usize,
    /// What the files say.
    pub right: Outcome,
    /// What the server said.
    pub said: Outcome,
}

/// What came out.
pub(crate) struct Run {
    /// The requests that count.
    pub tally: Tally,
    /// Those of the warm-up.
    pub warm_up: Tally,
    /// How long the replies that count took.
    pub latency: Latency,
    /// From the end of the warm-up to the last reply, or to the end of asking.
    pub seconds: f64,
    /// How late the generator sent requests for which a connection was free.
    pub lateness: Latency,
    /// How many of them were more than [`LATE`].
    pub late: u64,
    /// How often a connection was opened again.
    pub reconnects: u64,
    /// Processor time of the server, if its process was named.
    pub server: Option<Spent>,
    /// Processor time of the generator.
    pub own: Spent,
    /// For how long that was measured.
    pub own_seconds: f64,
    /// The first wrong replies.
    pub mismatches: Vec<Mismatch>,
}

impl Run {
    /// Replies a second.
    pub(crate) fn rate(&self) -> f64 {
        ratio(float(self.tally.replies()), self.seconds)
    }

    /// Processor time of the server for each reply, in microseconds.
    pub(crate) fn server_micros(&self) -> Option<f64> {
        let spent = self.server?;
        Some(ratio(float(spent.running), float(self.tally.replies())) / 1e3)
    }
}

/// How far a run has come, for somebody who watches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Seconds since it began.
    pub seconds: f64,
    /// Replies a second, lately.
    pub rate: f64,
    /// What went wrong so far.
    pub faults: u64,
}

/// Asks a server its questions on so many connections. Where `watch` breaks, nothing more is asked, and the run is what
/// there is by then.
pub(super) fn run(
    server: &Server,
    load: &Load,
    connections: usize,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Run, LoadError> {
    let place = server.target.resolve(load.timeout);
    let place = place.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => LoadError::NotInTime(load.timeout),
        _ => LoadError::Connect(error),
    })?;
    let mut generator = Generator::new(server, &place, load, connections)?;
    generator.connect_all()?;
    generator.drive(watch)?;
    generator.finish()
}

struct Generator<'a> {
    server: &'a Server,
    place: &'a Place,
    load: &'a Load,
    schedule: Schedule,
    timeout: u64,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Connections that have room for a request, and since when. Some may have been lost meanwhile.
    free: VecDeque<(usize, u64)>,
    begun: Instant,
    next_question: usize,
    /// Requests that count, in the closed loop; requests, in the open.
    asked: u64,
    in_flight: usize,
    last_asked: u64,
    last_reply: u64,
    last_counted_reply: u64,
    has_given_up: bool,
    is_stopped: bool,
    tally: Tally,
    warm_up: Tally,
    latency: Latency,
    lateness: Latency,
    late: u64,
    reconnects: u64,
    mismatches: Vec<Mismatch>,
    memory: BytesMut,
    /// When the warm-up was over, and what had been used by then: by the server, by us.
    used: Option<(Instant, Option<Used>, Used)>,
}

impl<'a> Generator<'a> {
    fn new(
        server: &'a Server,
        place: &'a Place,
        load: &'a Load,
        connections: usize,
    ) -> Result<Self, LoadError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| LoadError::System("epoll", error.into()))?;
        let latency =
            Latency::new().map_err(|error| LoadError::System("histogram", io::Error::other(error)))?;
        let lateness = latency.clone();
        let connection = |_| Connection::new(load.pipeline);
        // The kernel rounds sleeps up to 50 µs otherwise, which would be the latency of a quiet server. If it does not
        // let us, the lateness tells.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        Ok(Self {
            server,
            place,
            load,
            schedule: Schedule::of(load),
            timeout: nanos(load.timeout),
            epoll,
            connections: (0..connections).map(connection).collect(),
            free: VecDeque::with_capacity(connections),
            begun: Instant::now(),
            next_question: 0,
            asked: 0,
            in_flight: 0,
            last_asked: 0,
            last_reply: 0,
            last_counted_reply: 0,
            has_given_up: false,
            is_stopped: false,
            tally: Tally::default(),
            warm_up: Tally::default(),
            latency,
            lateness,
            late: 0,
            reconnects: 0,
            mismatches: Vec::new(),
            memory: BytesMut::with_capacity(4096),
            used: None,
        })
    }

    fn now(&self) -> u64 {
        nanos(self.begun.elapsed())
    }

    fn tally_of(&mut self, measured: bool) -> &mut Tally {
        if measured {
            &mut self.tally
        } else {
            &mut self.warm_up
        }
    }

    fn fault_now(&mut self, fault: Fault, now: u64) {
        let measured = now >= self.schedule.warm_until;
        self.tally_of(measured).faults.add(fault, 1);
    }

    /// Waits for events, for so many nanoseconds at most.
    fn wait(&self, events: &mut [epoll::Event], at_most: u64) -> Result<usize, LoadError> {
        let timeout = |nanos: u64| Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or_default(),
        };
        let mut at_most = timeout(at_most);
        if self.schedule.open.is_some() && at_most != timeout(0) {
            // epoll waits for whole milliseconds, rounded up (epoll_pwait2 does not, and wants Linux 5.11), which would
            // be half a millisecond of latency in each request. ppoll waits for nanoseconds, and can wait for an epoll.
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&at_most)) {
                Ok(0) | Err(Errno::INTR) => return Ok(0),
                Ok(_) => at_most = timeout(0),
                Err(error) => return Err(LoadError::System("poll", error.into())),
            }
        }
        let waited = epoll::wait(&self.epoll, events, Some(&at_most));
        match waited {
            Err(Errno::INTR) => Ok(0),
            waited => waited.map_err(|error| LoadError::System("epoll", error.into())),
        }
    }

    /// Everything from the first request to the last reply.
    fn drive(&mut self, watch: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<(), LoadError> {
        let mut events = no_events();
        self.begun = Instant::now();
        for id in 0..self.connections.len() {
            self.is_free(id, self.load.pipeline, 0);
        }
        let (mut next_round, mut next_progress, mut seen) = (0, PROGRESS, (0, 0));
        loop {
            let mut now = self.now();
            if self.used.is_none() && now >= self.schedule.warm_until {
                self.used = Some(self.used_now()?);
                now = self.now();
            }
            self.send_what_is_due();
            if now >= next_round {
                next_round = now + ROUNDS;
                self.look_after(now);
            }
            if now >= next_progress {
                next_progress = now + PROGRESS;
                let replies = self.tally.replies() + self.warm_up.replies();
                let progress = Progress {
                    seconds: float(now) / 1e9,
                    rate: ratio(float(replies - seen.1) * 1e9, float(now - seen.0)),
                    faults: self.tally.faults.total() + self.warm_up.faults.total(),
                };
                if watch(progress).is_break() {
                    self.stop(now);
                }
                seen = (now, replies);
            }
            if self.in_flight == 0 && self.has_asked_all(now) {
                return Ok(());
            }
            let until = self.next_due().map_or(next_round, |due| due.min(next_round));
            let ready = self.wait(&mut events, until.saturating_sub(self.now()))?;
            for event in events.iter().take(ready) {
                self.happened(number(event), event.flags);
            }
        }
    }

    /// What has been used until now. A server that is not there any more says so by its replies.
    fn used_now(&self) -> Result<(Instant, Option<Used>, Used), LoadError> {
        let own = Used::by(&[std::process::id()])
            .map_err(|error| LoadError::System("cannot read our own processor time", error))?;
        Ok((Instant::now(), Used::by(&self.server.pids).ok(), own))
    }

    /// Something happened on a connection.
    fn happened(&mut self, id: usize, flags: epoll::EventFlags) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        match connection.state {
            State::Gone { .. } => {}
            State::Connecting { .. } => {
                let now = self.now();
                match self.connected(id) {
                    Ok(true) => self.is_free(id, self.load.pipeline, now),
                    Ok(false) => {}
                    Err(_) => self.refused(id, now),
                }
            }
            State::Open { .. } => {
                if flags.contains(epoll::EventFlags::OUT) {
                    self.flush(id);
                }
                if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                    self.receive(id);
                }
            }
        }
    }
}

fn no_events() -> Vec<epoll::Event> {
    let nothing = epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    };
    vec![nothing; EVENTS]
}

/// The number of the connection on which something happened.
fn number(event: &epoll::Event) -> usize {
    let data = event.data;
    usize::try_from(data.u64()).unwrap_or(usize::MAX)
}

/// When what is due. Nanoseconds since the load began.
struct Schedule {
    warm_until: u64,
    end: u64,
    /// Nanoseconds from one request to the next, and how many there are.
    open: Option<(f64, u64)>,
}

impl Schedule {
    fn of(load: &Load) -> Self {
        let warm_until = nanos(load.warm_up);
        let end = load
            .duration
            .map_or(u64::MAX, |duration| warm_until.saturating_add(nanos(duration)));
        let open = load.rate.map(|rate| {
            let between = 1e9 / rate;
            let until = |time: u64| whole((float(time) / between).ceil());
            let by_count = load
                .count
                .map_or(u64::MAX, |count| until(warm_until).saturating_add(count));
            (between, until(end).min(by_count))
        });
        Self {
            warm_until,
            end,
            open,
        }
    }

    /// When the n-th request of the open loop is due.
    fn due(between: f64, number: u64) -> u64 {
        whole(float(number) * between)
    }
}
