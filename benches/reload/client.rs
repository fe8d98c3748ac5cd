//! Clients in closed loops over socketmap, as Postfix is one (one request at a time on a connection).
//!
//! One thread runs all connections of a measurement, so that on a small machine their context switches do not exceed
//! what is measured. The requests are made beforehand, and each reply is compared byte for byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime;

use super::apparatus::Result;
use super::apparatus::entries::{self, Edition, scattered};
use super::tables::Tables;

/// The minimum duration of a measurement.
const AT_LEAST: Duration = Duration::from_secs(1);

/// The minimum number of reloads during one measurement.
const RELOADS_AT_LEAST: u32 = 3;

/// The number of different requests: more than the entries of a large table that fit into the processor's caches.
const REQUESTS: u64 = 65_536;

/// A request, and the only right reply to it.
pub(crate) struct Request {
    bytes: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

impl Request {
    /// A request to `map` for `key`, whose reply is `value`.
    pub(crate) fn new(map: &str, key: &str, value: Option<&str>) -> Self {
        let reply = value.map_or_else(|| "NOTFOUND ".into(), |value| format!("OK {value}"));
        Self {
            bytes: netstring(&format!("{map} {key}")),
            reply: netstring(&reply),
        }
    }
}

fn netstring(payload: &str) -> Vec<u8> {
    format!("{}:{payload},", payload.len()).into_bytes()
}

/// Requests in pseudo-random order: both maps in turn, and every fourth time a sender without an entry.
pub(crate) struct Requests {
    all: Arc<[Request]>,
}

impl Requests {
    /// Requests for all of the entries of `tables`, as they are in this edition.
    pub(crate) fn about(tables: &Tables, edition: Edition) -> Self {
        let request = |number: u64| {
            let entry = scattered(number) % tables.entries;
            let known = !number.is_multiple_of(4);
            let sender = if known {
                entries::sender(entry)
            } else {
                entries::sender_without_entry(number)
            };
            if (number / 2).is_multiple_of(2) {
                Request::new(
                    "relayhost",
                    &sender,
                    known.then(|| edition.next_hop(entry)).as_deref(),
                )
            } else {
                Request::new(
                    "sasl",
                    &sender,
                    known.then(|| edition.credentials(entry)).as_deref(),
                )
            }
        };
        Self {
            all: (0..REQUESTS).map(request).collect(),
        }
    }
}

/// A connection for occasional requests.
pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream })
    }

    /// Sends the request, and reads as many bytes as the expected reply has.
    pub(crate) fn query(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        self.stream.write_all(&request.bytes)?;
        let mut reply = vec![0; request.reply.len()];
        self.stream.read_exact(&mut reply)?;
        Ok(reply)
    }
}

/// What happens during a measurement.
pub(crate) enum Meanwhile<'a> {
    /// Nothing.
    Nothing,
    /// Another thread computes: what a reload would do to the replies if it were only one more busy thread.
    BusyThread,
    /// The relay map is replaced, and again as soon as the replacement has taken effect.
    Reloads(&'a mut Tables),
}

/// The times of the replies.
#[derive(Clone, Copy, Default)]
pub(crate) struct Latency {
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latency {
    fn of(mut nanoseconds: Vec<u64>, took: Duration) -> Self {
        nanoseconds.sort_unstable();
        let quantile = |permille: usize| {
            let at = (nanoseconds.len() * permille / 1000).min(nanoseconds.len().saturating_sub(1));
            nanoseconds.get(at).map_or(0.0, |found| *found as f64 / 1e9)
        };
        Self {
            per_second: nanoseconds.len() as f64 / took.as_secs_f64(),
            p50: quantile(500),
            p99: quantile(990),
            p999: quantile(999),
            max: quantile(1000),
        }
    }
}

/// The clients of one server.
pub(crate) struct Clients<'a> {
    address: SocketAddr,
    requests: &'a Requests,
}

impl<'a> Clients<'a> {
    pub(crate) fn of(address: SocketAddr, requests: &'a Requests) -> Self {
        Self { address, requests }
    }

    /// Sends requests on this many connections until `meanwhile` has ended.
    pub(crate) fn measure(&self, connections: usize, meanwhile: Meanwhile<'_>) -> Result<Latency> {
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let stop = Arc::new(AtomicBool::new(false));
        thread::scope(|scope| {
            let address = self.address;
            let disturber = scope.spawn({
                let stop = Arc::clone(&stop);
                move || {
                    let result = disturb(meanwhile, address, &stop);
                    stop.store(true, Ordering::Relaxed);
                    result
                }
            });
            let begun = Instant::now();
            let asked = runtime.block_on(self.ask_on_all(connections, &stop));
            let took = begun.elapsed();
            stop.store(true, Ordering::Relaxed);
            disturber
                .join()
                .map_err(|_| "what disturbs the server has panicked")??;
            Ok(Latency::of(asked?, took))
        })
    }

    async fn ask_on_all(&self, connections: usize, stop: &Arc<AtomicBool>) -> Result<Vec<u64>> {
        let mut askers = Vec::new();
        for number in 0..connections {
            let asker = Client {
                stream: tokio::net::TcpStream::connect(self.address).await?,
                requests: Arc::clone(&self.requests.all),
                next: number * self.requests.all.len() / connections,
                stop: Arc::clone(stop),
            };
            asker.stream.set_nodelay(true)?;
            askers.push(tokio::spawn(asker.query()));
        }
        let mut all = Vec::new();
        for asker in askers {
            all.append(&mut asker.await??);
        }
        Ok(all)
    }
}

/// Runs `meanwhile` for some time, or until `stop` is set.
fn disturb(meanwhile: Meanwhile<'_>, address: SocketAddr, stop: &AtomicBool) -> Result<()> {
    let begun = Instant::now();
    let stopped = || stop.load(Ordering::Relaxed);
    match meanwhile {
        Meanwhile::Nothing => thread::sleep(AT_LEAST),
        Meanwhile::BusyThread => {
            while begun.elapsed() < AT_LEAST && !stopped() {
                std::hint::spin_loop();
            }
        }
        Meanwhile::Reloads(tables) => {
            let mut reloads = 0;
            while (begun.elapsed() < AT_LEAST || reloads < RELOADS_AT_LEAST) && !stopped() {
                tables.replace_and_wait(address)?;
                reloads += 1;
            }
        }
    }
    Ok(())
}

/// One of several connections.
struct Client {
    stream: tokio::net::TcpStream,
    requests: Arc<[Request]>,
    next: usize,
    stop: Arc<AtomicBool>,
}

impl Client {
    /// Sends requests until it is stopped. Returns how long each reply took, in nanoseconds.
    async fn query(mut self) -> Result<Vec<u64>> {
        let mut took = Vec::new();
        let mut buffer = [0; 1024];
        while !self.stop.load(Ordering::Relaxed) {
            let request = self.requests.get(self.next).ok_or("there is no request")?;
            self.next = (self.next + 1) % self.requests.len();
            let begun = Instant::now();
            self.stream.write_all(&request.bytes).await?;
            let mut have = 0;
            while have < request.reply.len() {
                let room = buffer.get_mut(have..).ok_or("the reply is too long")?;
                have += match self.stream.read(room).await? {
                    0 => return Err("the server closed a connection".into()),
                    more => more,
                };
                // Compared at each step, so that it does not wait for the rest of a shorter reply.
                if request.reply.get(..have) != buffer.get(..have) {
                    return Err(wrong(request, buffer.get(..have).unwrap_or_default()).into());
                }
            }
            took.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(took)
    }
}

fn wrong(request: &Request, reply: &[u8]) -> String {
    format!(
        "wrong reply: asked {}, got {} instead of {}",
        request.bytes.escape_ascii(),
        reply.escape_ascii(),
        request.reply.escape_ascii()
    )
}
