//! A change of one line: the time from the rename of the new source to the first new answer.

use std::thread;
use std::time::Duration;

use postmapd::protocol::client::{Client, Response};

use crate::apparatus::Result;
use crate::apparatus::relay_map::{self, MARKER};
use crate::lookup;
use crate::table::{Fixture, Method, Table};

/// The timeout for a change.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The interval between requests to postmapd: short compared with a reload, long compared with a lookup, so that the
/// requests disturb neither.
const REQUEST_INTERVAL: Duration = Duration::from_micros(200);

/// Changes one of Postfix's own tables, rebuilds it where needed, and looks up in one new process after another.
pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let Some((active, relay_map)) = &mut table.source else {
        return Ok(());
    };
    let next = relay_map.next()?;
    let hop = relay_map.marker_hop();
    let begun = relay_map::put(&[(&next, active)])?;
    table.build()?;
    let built = begun.elapsed();
    loop {
        let found = lookup::query_one(table, MARKER)?;
        if found == hop {
            break;
        }
        if begun.elapsed() > TIMEOUT {
            return Err(format!("{} still says {found} of {MARKER}", table.endpoint).into());
        }
    }
    table.changes.push(begun.elapsed().as_secs_f64());
    if matches!(table.method, Method::Built(_)) {
        table.builds.push(built.as_secs_f64());
    }
    table.age()
}

/// Changes the relay map of postmapd, and queries all endpoints in turn, over connections that were open before.
pub(crate) fn measure_served(fixture: &mut Fixture) -> Result<()> {
    let mut waiting = Vec::new();
    let mut clients = Vec::new();
    for (number, table) in fixture.tables().enumerate() {
        if let Method::Served(endpoint) = &table.method {
            let mut client = Client::connect(endpoint.clone())?;
            query(&mut client)?;
            clients.push((number, client));
        }
    }
    let (active, relay_map) = &mut fixture.served;
    let next = relay_map.next()?;
    let hop = relay_map.marker_hop();
    let begun = relay_map::put(&[(&next, active)])?;
    while !clients.is_empty() {
        let mut still = Vec::new();
        for (number, mut client) in clients {
            if query(&mut client)?.as_deref() == Some(hop.as_bytes()) {
                waiting.push((number, begun.elapsed()));
            } else {
                still.push((number, client));
            }
        }
        clients = still;
        if begun.elapsed() > TIMEOUT {
            return Err("the reload does not come".into());
        }
        thread::sleep(REQUEST_INTERVAL);
    }
    for (number, took) in waiting {
        if let Some(table) = fixture.tables().nth(number) {
            table.changes.push(took.as_secs_f64());
        }
    }
    Ok(())
}

fn query(client: &mut Client) -> Result<Option<Vec<u8>>> {
    match client.lookup("relayhost", MARKER.as_bytes())? {
        Response::Found(value) => Ok(Some(value.expose().to_vec())),
        Response::NotFound => Ok(None),
        Response::CannotTell(why) => Err(why.into()),
    }
}
