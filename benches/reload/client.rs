//! Those who ask: closed loops over socketmap, as Postfix asks (one question at a time on a connection).
//!
//! All connections of a measurement are driven by one thread, so that on a small machine their own switching does not
//! drown what is measured. The questions are made beforehand, and each reply is compared byte for byte.

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

/// How long a measurement takes at least.
const AT_LEAST: Duration = Duration::from_secs(1);

/// How many reloads one of them spans at least.
const RELOADS_AT_LEAST: u32 = 3;

/// How many different questions there are: more than the processor's caches hold entries of a large table.
const QUESTIONS: u64 = 65_536;

/// A request, and the only right reply to it.
pub(crate) struct Question {
    request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

impl Question {
    /// `map` is asked for `key`, and is to say `value`.
    pub(crate) fn new(map: &str, key: &str, value: Option<&str>) -> Self {
        let reply = value.map_or_else(|| "NOTFOUND ".into(), |value| format!("OK {value}"));
        Self {
            request: netstring(&format!("{map} {key}")),
            reply: netstring(&reply),
        }
    }
}

fn netstring(payload: &str) -> Vec<u8> {
    format!("{}:{payload},", payload.len()).into_bytes()
}

/// Questions in an order that looks like chance: both maps in turn, and every fourth time a sender without an entry.
pub(crate) struct Questions {
    all: Arc<[Question]>,
}

impl Questions {
    /// Questions about all of the entries of `tables`, as they are in this edition.
    pub(crate) fn about(tables: &Tables, edition: Edition) -> Self {
        let question = |number: u64| {
            let entry = scattered(number) % tables.entries;
            let known = !number.is_multiple_of(4);
            let sender = if known {
                entries::sender(entry)
            } else {
                entries::stranger(number)
            };
            if (number / 2).is_multiple_of(2) {
                Question::new(
                    "relayhost",
                    &sender,
                    known.then(|| edition.next_hop(entry)).as_deref(),
                )
            } else {
                Question::new(
                    "sasl",
                    &sender,
                    known.then(|| edition.credentials(entry)).as_deref(),
                )
            }
        };
        Self {
            all: (0..QUESTIONS).map(question).collect(),
        }
    }
}

/// One connection, of somebody who asks now and then.
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

    /// Asks, and takes a reply that is as long as the expected one.
    pub(crate) fn ask(&mut self, question: &Question) -> io::Result<Vec<u8>> {
        self.stream.write_all(&question.request)?;
        let mut reply = vec![0; question.reply.len()];
        self.stream.read_exact(&mut reply)?;
        Ok(reply)
    }
}

/// What goes on while a server is asked.
pub(crate) enum Meanwhile<'a> {
    /// Nothing.
    Nothing,
    /// Somebody else computes: what a reload would do to the replies if it were no more than one more busy thread.
    BusyThread,
    /// The relay map is replaced, and again as soon as the replacement is in force.
    Reloads(&'a mut Tables),
}

/// How long the replies took.
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

/// Somebody who asks one server.
pub(crate) struct Asking<'a> {
    address: SocketAddr,
    questions: &'a Questions,
}

impl<'a> Asking<'a> {
    pub(crate) fn of(address: SocketAddr, questions: &'a Questions) -> Self {
        Self { address, questions }
    }

    /// Asks on this many connections for as long as `meanwhile` goes on.
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
            let asker = Asker {
                stream: tokio::net::TcpStream::connect(self.address).await?,
                questions: Arc::clone(&self.questions.all),
                next: number * self.questions.all.len() / connections,
                stop: Arc::clone(stop),
            };
            asker.stream.set_nodelay(true)?;
            askers.push(tokio::spawn(asker.ask()));
        }
        let mut all = Vec::new();
        for asker in askers {
            all.append(&mut asker.await??);
        }
        Ok(all)
    }
}

/// Disturbs the server for a while, or until somebody else stops.
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
struct Asker {
    stream: tokio::net::TcpStream,
    questions: Arc<[Question]>,
    next: usize,
    stop: Arc<AtomicBool>,
}

impl Asker {
    /// Asks until it is stopped. Returns how long each reply took, in nanoseconds.
    async fn ask(mut self) -> Result<Vec<u64>> {
        let mut took = Vec::new();
        let mut buffer = [0; 1024];
        while !self.stop.load(Ordering::Relaxed) {
            let question = self.questions.get(self.next).ok_or("there is no question")?;
            self.next = (self.next + 1) % self.questions.len();
            let begun = Instant::now();
            self.stream.write_all(&question.request).await?;
            let mut have = 0;
            while have < question.reply.len() {
                let room = buffer.get_mut(have..).ok_or("the reply is too long")?;
                have += match self.stream.read(room).await? {
                    0 => return Err("the server closed a connection".into()),
                    more => more,
                };
                // At each step, so that a reply that is shorter is not waited for.
                if question.reply.get(..have) != buffer.get(..have) {
                    return Err(wrong(question, buffer.get(..have).unwrap_or_default()).into());
                }
            }
            took.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(took)
    }
}

fn wrong(question: &Question, reply: &[u8]) -> String {
    format!(
        "wrong reply: asked {}, got {} instead of {}",
        question.request.escape_ascii(),
        reply.escape_ascii(),
        question.reply.escape_ascii()
    )
}
