//! The load generator: many connections, driven by one thread.
//!
//! **Closed loop.** Each connection has a fixed number of requests in flight and sends another when a reply arrives, as
//! a Postfix process does (with one). A server that stalls then gets fewer requests, and a stall of a second shows as
//! one slow reply on each connection. This is what N processes would experience; it hides the effect on mail that
//! arrives meanwhile.
//!
//! **Open loop.** Requests are due at fixed times, whatever the server does. A latency begins when the request was due,
//! not when a connection was free to send it. So a stall shows in every request that should have been sent during it;
//! hiding that is known as coordinated omission.
//!
//! The generator may be too slow, too. If a request was due, a connection was free, and the request was sent more than
//! [`LATE_AFTER`] later, the generator is at fault, and the request is counted ([`Run::late`]). The generator's CPU
//! time and its time of waiting for a processor are also measured ([`Run::generator_cpu`]).
//!
//! A connection with unclear state (protocol violation, unrequested bytes, no reply in time) is closed and reopened, as
//! Postfix should do and sometimes does.
//!
//! Limits: one thread. Requests in flight on a lost connection are not repeated. Bytes after the last reply are
//! detected by a single read, without waiting.

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

/// How late a request may be sent before the generator is at fault, in nanoseconds.
pub(crate) const LATE: u64 = 1_000_000;
/// How often timeouts and reconnects are checked, in nanoseconds.
const ROUNDS: u64 = 5_000_000;
/// How often progress is reported, in nanoseconds.
const PROGRESS: u64 = 200_000_000;
const EVENTS: usize = 256;

/// The load to put on a server.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The maximum number of requests in flight on each connection.
    pub pipeline: usize,
    /// Open loop: requests per second. `None` for the closed loop.
    pub rate: Option<f64>,
    /// How long to send requests before measuring.
    pub warm_up: Duration,
    /// The maximum duration of the measurement.
    pub duration: Option<Duration>,
    /// The maximum number of measured requests.
    pub count: Option<u64>,
    /// How long to wait for a connection or a reply.
    pub timeout: Duration,
}

/// Why nothing can be measured.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// The server cannot be connected to.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connections were not all accepted within the timeout.
    #[error("no connection within {0:?} (--timeout); the server accepts too few, or none")]
    NotInTime(Duration),
    /// A system call failed.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// A wrong reply. It has no values, because these may be credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The number of the request.
    pub question: usize,
    /// The reply according to the files.
    pub right: Outcome,
    /// The server's reply.
    pub said: Outcome,
}

/// The result of a run.
pub(crate) struct Run {
    /// The counts of the measurement.
    pub tally: Tally,
    /// The counts of the warm-up.
    pub warm_up: Tally,
    /// The latencies of the measured replies.
    pub latency: Latency,
    /// Seconds from the end of the warm-up to the last reply, or to the end of sending if that is later.
    pub seconds: f64,
    /// How late requests were sent for which a connection was free.
    pub lateness: Latency,
    /// How many of them were sent more than [`LATE_AFTER`] late.
    pub late: u64,
    /// How often a connection was reopened.
    pub reconnects: u64,
    /// CPU time of the server, if its processes are known.
    pub server: Option<Spent>,
    /// CPU time of the generator.
    pub own: Spent,
    /// The seconds over which the CPU times were measured.
    pub own_seconds: f64,
    /// The first wrong replies.
    pub mismatches: Vec<Mismatch>,
}

impl Run {
    /// Returns replies per second.
    pub(crate) fn rate(&self) -> f64 {
        ratio(float(self.tally.replies()), self.seconds)
    }

    /// Returns the server's CPU time per reply, in microseconds.
    pub(crate) fn server_micros(&self) -> Option<f64> {
        let spent = self.server?;
        Some(ratio(float(spent.running), float(self.tally.replies())) / 1e3)
    }
}

/// The progress of a run, for display.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Seconds since the load began.
    pub seconds: f64,
    /// Replies per second since the last report.
    pub rate: f64,
    /// Errors so far.
    pub faults: u64,
}

/// Puts the load on a server, with this number of connections. If `watch` breaks, no further requests are sent, and the
/// run contains what was measured until then.
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
    /// Connections with room for a request, each with the time since when. Some may have been closed meanwhile.
    free: VecDeque<(usize, u64)>,
    begun: Instant,
    next_question: usize,
    /// The number of requests sent. The closed loop counts only measured ones.
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
    /// The time at the end of the warm-up, with the CPU times of the server and of the generator.
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
        // By default the kernel delays wake-ups by up to 50 µs, which would dominate the latency of an idle server. If
        // this fails, the lateness shows it.
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

    /// Waits for events for at most this number of nanoseconds. Returns the number of events.
    fn wait(&self, events: &mut [epoll::Event], at_most: u64) -> Result<usize, LoadError> {
        let timeout = |nanos: u64| Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or_default(),
        };
        let mut at_most = timeout(at_most);
        if self.schedule.open.is_some() && at_most != timeout(0) {
            // epoll rounds timeouts up to whole milliseconds (epoll_pwait2 does not, but needs Linux 5.11), which would
            // add half a millisecond to each latency. ppoll has nanoseconds, and can wait for an epoll descriptor.
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

    /// Runs the load from the first request to the last reply.
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

    /// Reads the CPU times. If the server has ended, only its replies report it.
    fn used_now(&self) -> Result<(Instant, Option<Used>, Used), LoadError> {
        let own = Used::by(&[std::process::id()])
            .map_err(|error| LoadError::System("cannot read our own processor time", error))?;
        Ok((Instant::now(), Used::by(&self.server.pids).ok(), own))
    }

    /// Handles an event of a connection.
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

/// Returns the number of the connection that an event belongs to.
fn number(event: &epoll::Event) -> usize {
    let data = event.data;
    usize::try_from(data.u64()).unwrap_or(usize::MAX)
}

/// When requests are due. Times are nanoseconds since the load began.
struct Schedule {
    warm_until: u64,
    end: u64,
    /// Open loop: nanoseconds between requests, and the number of requests.
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

    /// Returns when the n-th request of the open loop is due.
    fn due(between: f64, number: u64) -> u64 {
        whole(float(number) * between)
    }
}
