//! A DNS server at a loopback address, with mail exchangers and their addresses.
//!
//! Limits: UDP only, one question a query, at most one record of each type a name. Any other name is answered NXDOMAIN.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// The offset of the question in a query (RFC 1035, section 4.1.1).
const HEADER: usize = 12;
const A: u16 = 1;
const MX: u16 = 15;
const AAAA: u16 = 28;

/// A record of a name.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    Address(Ipv4Addr),
    Address6(Ipv6Addr),
    /// The name of the mail exchanger.
    Exchanger(String),
}

impl Record {
    fn kind(&self) -> u16 {
        match self {
            Self::Address(_) => A,
            Self::Address6(_) => AAAA,
            Self::Exchanger(_) => MX,
        }
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Self::Address(address) => address.octets().to_vec(),
            Self::Address6(address) => address.octets().to_vec(),
            Self::Exchanger(name) => [&[0, 10], &encoded(name)[..]].concat(),
        }
    }
}

/// The records of domains that have one mail exchanger each, named `mx.` and the domain, at the address with the same
/// index in `exchangers`.
pub(crate) fn mail_exchangers(domains: &[&str], exchangers: &[Ipv4Addr]) -> Vec<(String, Record)> {
    let records = domains.iter().zip(exchangers).flat_map(|(domain, address)| {
        let exchanger = format!("mx.{domain}");
        [
            ((*domain).to_owned(), Record::Exchanger(exchanger.clone())),
            (exchanger, Record::Address(*address)),
        ]
    });
    records.collect()
}

/// A running name server. It stops on drop.
pub(crate) struct NameServer {
    address: Ipv4Addr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts one at port 53 of that address, which no other test may use, with the records of these names.
    pub(crate) fn start(address: Ipv4Addr, records: Vec<(String, Record)>) -> Self {
        let socket = UdpSocket::bind((address, 53)).unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stopping = Arc::clone(&stopping);
            move || {
                let mut query = [0; 512];
                while let Ok((length, peer)) = socket.recv_from(&mut query) {
                    if stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    if let Some(reply) = reply(query.get(..length).unwrap_or_default(), &records) {
                        socket.send_to(&reply, peer).unwrap();
                    }
                }
            }
        });
        Self {
            address,
            stopping,
            thread: Some(thread),
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let woken = UdpSocket::bind((self.address, 0)).and_then(|own| own.send_to(b"", (self.address, 53)));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            drop(thread.join());
        }
    }
}

fn reply(query: &[u8], records: &[(String, Record)]) -> Option<Vec<u8>> {
    let (header, rest) = query.split_at_checked(HEADER)?;
    let end = rest.iter().position(|byte| *byte == 0)? + 1;
    let (name, class_and_type) = (rest.get(..end)?, rest.get(end..end + 4)?);
    let kind = u16::from_be_bytes([class_and_type[0], class_and_type[1]]);
    let of_name: Vec<_> = records
        .iter()
        .filter(|(of, _)| name.eq_ignore_ascii_case(&encoded(of)))
        .collect();
    let record = of_name.iter().find(|(_, record)| record.kind() == kind);
    let record = record.map(|(_, record)| record.data());
    let answers = u8::from(record.is_some());
    // An authoritative answer to one question: the record, none of this type, or NXDOMAIN.
    let flags = [0x85, if of_name.is_empty() { 0x83 } else { 0x80 }];
    let mut reply = [header.get(..2)?, &flags, &[0, 1, 0, answers, 0, 0, 0, 0]].concat();
    reply.extend_from_slice(rest.get(..end + 4)?);
    if let Some(record) = record {
        // A pointer to the name in the question, then type, class and a TTL of 60 seconds.
        reply.extend_from_slice(&[0xc0, 12]);
        reply.extend_from_slice(class_and_type);
        reply.extend_from_slice(&60_u32.to_be_bytes());
        reply.extend_from_slice(&u16::try_from(record.len()).ok()?.to_be_bytes());
        reply.extend_from_slice(&record);
    }
    Some(reply)
}

/// A name as DNS labels.
fn encoded(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
