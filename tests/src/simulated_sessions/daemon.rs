//! The daemon: its engine, and a sink that writes to the simulated disk and syncs it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use blocksd_engine::Engine;
use blocksd_engine::batch::Item;
use blocksd_engine::connection::policy::{Policy, SessionMode, SessionPolicy, Timeouts};
use blocksd_engine::event::{EventKind, Peer};
use blocksd_engine::listen::transport::Transport;
use blocksd_engine::session::{Recovered, Session, Sessions};
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Events, Interest};
use framing_core::session::{Written, crc32};
use framing_core::{AnyFraming, Blocks};
use tokio::sync::mpsc;
use tokio::time::Instant;
use turmoil::net::TcpListener;

use super::{DEVICES, Entry, World, known, link, name};
use crate::simulated::wire::Wire;

/// Port of the daemon.
pub(super) const PORT: u16 = 1060;
/// Longest time until a commit.
const SYNC_AFTER: Duration = Duration::from_millis(100);
/// Silence of the daemon in a session.
pub(super) const HEARTBEAT_S: u64 = 3;

/// One life of the daemon.
pub(super) async fn run(world: World) -> turmoil::Result {
    let sessions = Arc::new(Sessions::new(100));
    sessions.recover(recovered(&world));
    let mut engine = Engine::builder()
        .sessions(Some(Arc::clone(&sessions)))
        .build();
    let delivery = Delivery::Backpressure { queue_len: 4 };
    let events = engine.subscribe("recording", Interest::All, delivery);
    let socket = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let (accepted, connections) = mpsc::channel(4);
    let of_socket = Arc::clone(&world);
    tokio::task::spawn_local(async move {
        while let Ok((stream, peer)) = socket.accept().await {
            if known(&of_socket).refuses {
                continue;
            }
            let device = (0..DEVICES).find(|device| turmoil::lookup(name(*device)) == peer.ip());
            let (token, seed) = link(&of_socket, device.expect("a device"));
            let stream: Box<dyn Transport> = Box::new(Wire::new(stream, token, seed));
            if accepted.send((stream, Peer::Network(peer))).await.is_err() {
                break;
            }
        }
    });
    tokio::task::spawn_local(write(world, events, sessions));
    engine.listen_on_channel("simulated", connections, policy());
    engine.run().await?;
    Ok(())
}

fn policy() -> Policy {
    Policy {
        timeouts: Timeouts {
            header: Some(Duration::from_secs(5)),
            message: Some(Duration::from_secs(5)),
            ..Timeouts::default()
        },
        sessions: SessionPolicy {
            mode: SessionMode::Required,
            ack_interval: Duration::from_millis(300),
            heartbeat: Duration::from_secs(HEARTBEAT_S),
        },
        ..Policy::new(AnyFraming::Blocks(Blocks))
    }
}

/// Reads the sessions from the disk. Everything that was written survives the daemon, and a start syncs it.
fn recovered(world: &World) -> Vec<Recovered> {
    let mut known = known(world);
    known.lives += 1;
    known.disk.synced = known.disk.entries.len();
    let mut sessions: HashMap<(String, u64), (u64, u32)> = HashMap::new();
    for entry in &known.disk.entries {
        let check = entry.payload.as_ref();
        let check = check.map_or(0, |payload| crc32(payload.iter().copied()));
        let key = (entry.device.clone(), entry.session);
        sessions.insert(key, (entry.to, check));
    }
    let sessions = sessions
        .into_iter()
        .map(|((device, session), (next, check))| Recovered {
            device: device.into(),
            session,
            next,
            check,
        });
    sessions.collect()
}

/// A sync in progress.
struct Commit {
    ends: Instant,
    /// Length of the recording when it began.
    len: usize,
    touched: Vec<(Arc<Session>, u64)>,
}

/// Writes events to the disk, and syncs it.
async fn write(world: World, mut events: Events, sessions: Arc<Sessions>) {
    let mut touched: HashMap<(Arc<str>, u64), Arc<Session>> = HashMap::new();
    let mut commit: Option<Commit> = None;
    let mut due = Instant::now() + SYNC_AFTER;
    loop {
        let wake = commit.as_ref().map_or(due, |commit| commit.ends);
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(wake) => {
                match commit.take() {
                    Some(commit) => end(&world, commit, &sessions, &mut touched),
                    None => {
                        let known = known(&world);
                        commit = Some(Commit {
                            ends: Instant::now() + Duration::from_millis(known.sync_ms),
                            len: known.disk.entries.len(),
                            touched: touched
                                .drain()
                                .map(|(_, session)| {
                                    let written = session.written();
                                    (session, written)
                                })
                                .collect(),
                        });
                        due = Instant::now() + SYNC_AFTER;
                    }
                }
            }
            next = events.recv() => {
                let Next::Event(event) = next else {
                    return;
                };
                let Some(session) = event.source.session.clone() else {
                    continue;
                };
                let mut put = |from, to, payload: Option<&[u8]>| {
                    if session.write(from, to - from) == (Written::Write { skip: 0 }) {
                        known(&world).disk.entries.push(Entry {
                            device: session.device().to_string(),
                            session: session.number(),
                            from,
                            to,
                            payload: payload.map(<[u8]>::to_vec),
                        });
                        let key = (Arc::clone(session.device()), session.number());
                        touched.insert(key, Arc::clone(&session));
                    }
                };
                match event.kind {
                    EventKind::Batch { batch, position } => {
                        let mut number = position.seq;
                        for item in batch.items() {
                            if let Item::Message(bytes) = item {
                                put(number, number + 1, Some(bytes));
                                number += 1;
                            }
                        }
                    }
                    EventKind::Gap(gap) => put(gap.from, gap.to, None),
                    _ => {}
                }
            }
        }
    }
}

/// A sync has ended. After one that failed, nothing that is not synced stays in the recording.
fn end(
    world: &World,
    commit: Commit,
    sessions: &Sessions,
    touched: &mut HashMap<(Arc<str>, u64), Arc<Session>>,
) {
    let mut known = known(world);
    if known.syncs_fail && commit.len != known.disk.synced {
        known.failed_syncs += 1;
        let synced = known.disk.synced;
        known.disk.entries.truncate(synced);
        drop(known);
        touched.clear();
        sessions.reset();
        return;
    }
    known.disk.synced = commit.len;
    drop(known);
    for (session, written) in commit.touched {
        session.synced(written);
    }
}
