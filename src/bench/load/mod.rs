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

mod connecting;
mod ending;
mod replies;
mod sending;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use thiserror::Error;

use super::Server;
use super::connection::{Connection, State};
use super::cpu::{CpuTimes, CpuUsage};
use super::latency::Latency;
use super::number::{nanos, ratio, round, to_f64};
use super::tally::{ErrorKind, Outcome, Tally};
use super::target::ConnectAddress;

/// How late a request may be sent before the generator is at fault, in nanoseconds.
pub(crate) const LATE_AFTER: u64 = 1_000_000;
/// How often timeouts, reconnects and an interruption are checked, in nanoseconds.
const MAINTENANCE_INTERVAL: u64 = 5_000_000;
/// How often progress is reported, in nanoseconds.
const PROGRESS_INTERVAL: u64 = 200_000_000;
/// How long to wait for replies in flight after an interruption, in nanoseconds.
const WAIT_AFTER_STOP: u64 = 1_000_000_000;
const EVENTS_AT_ONCE: usize = 256;

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
    #[error("the server did not accept all connections within {0:?} (--timeout)")]
    ConnectTimeout(Duration),
    /// A system call failed.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// A wrong reply. It has no values, because these may be credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The number of the request.
    pub request: usize,
    /// The reply according to the files.
    pub expected: Outcome,
    /// The server's reply.
    pub actual: Outcome,
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
    pub server_cpu: Option<CpuUsage>,
    /// CPU time of the generator.
    pub generator_cpu: CpuUsage,
    /// The seconds over which the CPU times were measured.
    pub generator_seconds: f64,
    /// The first wrong replies.
    pub mismatches: Vec<Mismatch>,
    /// Whether it was not interrupted.
    pub is_complete: bool,
}

impl Run {
    /// Returns replies per second.
    pub(crate) fn rate(&self) -> f64 {
        ratio(to_f64(self.tally.replies()), self.seconds)
    }

    /// Returns the server's CPU time per reply, in microseconds.
    pub(crate) fn server_micros_per_reply(&self) -> Option<f64> {
        let usage = self.server_cpu?;
        Some(ratio(to_f64(usage.running), to_f64(self.tally.replies())) / 1e3)
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
    pub errors: u64,
}

/// Puts the load on a server, with this number of connections. Once `stop` is set, no further requests are sent, and the
/// run contains what was measured until then. `None` if that is nothing.
pub(super) fn run(
    server: &Server,
    load: &Load,
    connections: usize,
    stop: &AtomicBool,
    show: &mut dyn FnMut(Progress),
) -> Result<Option<Run>, LoadError> {
    if stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let address = server.target.resolve(load.timeout);
    let address = address.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => LoadError::ConnectTimeout(load.timeout),
        _ => LoadError::Connect(error),
    })?;
    let mut generator = Generator::new(server, &address, load, connections, stop)?;
    if !generator.connect_all()? {
        return Ok(None);
    }
    generator.run_loop(show)?;
    let run = generator.finish()?;
    Ok((run.is_complete || run.tally.requests > 0).then_some(run))
}

struct Generator<'a> {
    server: &'a Server,
    address: &'a ConnectAddress,
    load: &'a Load,
    stop: &'a AtomicBool,
    schedule: Schedule,
    timeout: u64,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Connections with room for a request, each with the time since when. Some may have been closed meanwhile.
    free: VecDeque<(usize, u64)>,
    started_at: Instant,
    next_request: usize,
    /// The number of requests sent. The closed loop counts only measured ones.
    sent_requests: u64,
    in_flight: usize,
    last_sent: u64,
    last_reply: u64,
    last_measured_reply: u64,
    has_given_up: bool,
    stopped_at: Option<u64>,
    tally: Tally,
    warm_up: Tally,
    latency: Latency,
    lateness: Latency,
    late: u64,
    reconnects: u64,
    mismatches: Vec<Mismatch>,
    decode_buffer: BytesMut,
    /// The time at the end of the warm-up, with the CPU times of the server and of the generator.
    after_warm_up: Option<(Instant, Option<CpuTimes>, CpuTimes)>,
}

impl<'a> Generator<'a> {
    fn new(
        server: &'a Server,
        address: &'a ConnectAddress,
        load: &'a Load,
        connections: usize,
        stop: &'a AtomicBool,
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
            address,
            load,
            stop,
            schedule: Schedule::new(load),
            timeout: nanos(load.timeout),
            epoll,
            connections: (0..connections).map(connection).collect(),
            free: VecDeque::with_capacity(connections),
            started_at: Instant::now(),
            next_request: 0,
            sent_requests: 0,
            in_flight: 0,
            last_sent: 0,
            last_reply: 0,
            last_measured_reply: 0,
            has_given_up: false,
            stopped_at: None,
            tally: Tally::default(),
            warm_up: Tally::default(),
            latency,
            lateness,
            late: 0,
            reconnects: 0,
            mismatches: Vec::new(),
            decode_buffer: BytesMut::with_capacity(4096),
            after_warm_up: None,
        })
    }

    /// Whether the measurement was interrupted.
    fn must_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        nanos(self.started_at.elapsed())
    }

    fn tally_mut(&mut self, measured: bool) -> &mut Tally {
        if measured {
            &mut self.tally
        } else {
            &mut self.warm_up
        }
    }

    fn count_error(&mut self, error: ErrorKind, now: u64) {
        let measured = now >= self.schedule.warm_up_end;
        self.tally_mut(measured).errors.add(error, 1);
    }

    /// Waits for events for at most this number of nanoseconds. Returns the number of events.
    fn wait(&self, events: &mut [epoll::Event], max_wait: u64) -> Result<usize, LoadError> {
        let timeout = |nanos: u64| Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or_default(),
        };
        let mut max_wait = timeout(max_wait);
        if self.schedule.open_loop.is_some() && max_wait != timeout(0) {
            // epoll rounds timeouts up to whole milliseconds (epoll_pwait2 does not, but needs Linux 5.11), which would
            // add half a millisecond to each latency. ppoll has nanoseconds, and can wait for an epoll descriptor.
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&max_wait)) {
                Ok(0) | Err(Errno::INTR) => return Ok(0),
                Ok(_) => max_wait = timeout(0),
                Err(error) => return Err(LoadError::System("poll", error.into())),
            }
        }
        let waited = epoll::wait(&self.epoll, events, Some(&max_wait));
        match waited {
            Err(Errno::INTR) => Ok(0),
            waited => waited.map_err(|error| LoadError::System("epoll", error.into())),
        }
    }

    /// Runs the load from the first request to the last reply.
    fn run_loop(&mut self, show: &mut dyn FnMut(Progress)) -> Result<(), LoadError> {
        let mut events = event_buffer();
        self.started_at = Instant::now();
        for id in 0..self.connections.len() {
            self.on_slots_free(id, self.load.pipeline, 0);
        }
        let (mut next_maintenance, mut next_progress, mut last_progress) = (0, PROGRESS_INTERVAL, (0, 0));
        loop {
            let mut now = self.now();
            if self.after_warm_up.is_none() && now >= self.schedule.warm_up_end {
                self.after_warm_up = Some(self.read_cpu_times()?);
                now = self.now();
            }
            self.send_due_requests();
            if now >= next_maintenance {
                next_maintenance = now + MAINTENANCE_INTERVAL;
                if self.stopped_at.is_none() && self.must_stop() {
                    self.stop(now);
                }
                self.maintain(now);
            }
            if now >= next_progress {
                next_progress = now + PROGRESS_INTERVAL;
                let replies = self.tally.replies() + self.warm_up.replies();
                let progress = Progress {
                    seconds: to_f64(now) / 1e9,
                    rate: ratio(
                        to_f64(replies - last_progress.1) * 1e9,
                        to_f64(now - last_progress.0),
                    ),
                    errors: self.tally.errors.total() + self.warm_up.errors.total(),
                };
                show(progress);
                last_progress = (now, replies);
            }
            if self.in_flight == 0 && self.has_sent_all(now) {
                return Ok(());
            }
            let until = self
                .next_due()
                .map_or(next_maintenance, |due| due.min(next_maintenance));
            let ready = self.wait(&mut events, until.saturating_sub(self.now()))?;
            for event in events.iter().take(ready) {
                self.on_event(connection_of(event), event.flags);
            }
        }
    }

    /// Reads the CPU times. If the server has ended, only its replies report it.
    fn read_cpu_times(&self) -> Result<(Instant, Option<CpuTimes>, CpuTimes), LoadError> {
        let own = CpuTimes::read(&[std::process::id()])
            .map_err(|error| LoadError::System("cannot read the processor time of the generator", error))?;
        Ok((Instant::now(), CpuTimes::read(&self.server.pids).ok(), own))
    }

    /// Handles an event of a connection.
    fn on_event(&mut self, id: usize, flags: epoll::EventFlags) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        match connection.state {
            State::Closed { .. } => {}
            State::Connecting { .. } => {
                let now = self.now();
                match self.finish_connect(id) {
                    Ok(true) => self.on_slots_free(id, self.load.pipeline, now),
                    Ok(false) => {}
                    Err(_) => self.on_connect_error(id, now),
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

fn event_buffer() -> Vec<epoll::Event> {
    let empty = epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    };
    vec![empty; EVENTS_AT_ONCE]
}

/// Returns the number of the connection that an event belongs to.
fn connection_of(event: &epoll::Event) -> usize {
    let data = event.data;
    usize::try_from(data.u64()).unwrap_or(usize::MAX)
}

/// When requests are due. Times are nanoseconds since the load began.
struct Schedule {
    warm_up_end: u64,
    end: u64,
    /// Open loop: nanoseconds between requests, and the number of requests.
    open_loop: Option<(f64, u64)>,
}

impl Schedule {
    fn new(load: &Load) -> Self {
        let warm_up_end = nanos(load.warm_up);
        let end = load
            .duration
            .map_or(u64::MAX, |duration| warm_up_end.saturating_add(nanos(duration)));
        let open_loop = load.rate.map(|rate| {
            let interval = 1e9 / rate;
            let until = |time: u64| round((to_f64(time) / interval).ceil());
            let by_count = load
                .count
                .map_or(u64::MAX, |count| until(warm_up_end).saturating_add(count));
            (interval, until(end).min(by_count))
        });
        Self {
            warm_up_end,
            end,
            open_loop,
        }
    }

    /// Returns when the n-th request of the open loop is due.
    fn due(interval: f64, number: u64) -> u64 {
        round(to_f64(number) * interval)
    }
}
