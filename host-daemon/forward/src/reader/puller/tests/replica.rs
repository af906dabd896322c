//! A server whose replica of a stream lags: a [`Replica`]. It knows what a puller asks, and no more.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// When the stream was made.
const STORED: &str = "2026-11-29T19:56:51.982237786Z";
/// When the message before the first one was stored, in nanoseconds since 1970.
const BEGUN_NS: u64 = 1_795_982_160_000_000_000;

/// The headers of a forwarded message, in base64, with the nonce [`NONCE`].
const HEADERS: &str = "TkFUUy8xLjANCkJsb2Nrc2QtS2luZDogbWVzc2FnZXMNCkJsb2Nrc2QtSW5zdGFuY2U6IDAwMDAwMDAwMDAwMDAwYTcNCkJsb2Nrc2QtUGxhY2U6IDEuMDBmM2\
    E1Yzc3MTFkMmU0Yi4yDQpCbG9ja3NkLUNvdW50OiAxDQpCbG9ja3NkLUZpcnN0OiAwDQpCbG9ja3NkLVRpbWU6IDUNCkJsb2Nrc2QtTm9uY2U6IDAwMDAwMDAwMDAwMDAwYTgNCg0K";
/// The nonce of each message.
pub(super) const NONCE: u64 = 0xa8;

/// When a message was stored, in nanoseconds since 1970: one each second.
pub(super) const fn stored_ns(sequence: u64) -> u64 {
    BEGUN_NS + sequence * 1_000_000_000
}

fn stored(sequence: u64) -> String {
    format!("2026-11-29T19:56:{sequence:02}Z")
}

/// What a server has, and what it was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Replica {
    /// The last sequence number that the leader says, at each question about the stream. The last one stays.
    pub(super) leader: Vec<u64>,
    /// The sequence number of the last message that is not deleted, if it is another one.
    pub(super) kept: Option<u64>,
    /// The leader knows no last message of subjects, as nats-server 2.9 after one was removed.
    pub(super) hides_last: bool,
    /// The server is one of 2.9, and a consumer of the last message of each subject delivers nothing, as after one was removed.
    pub(super) stalls: bool,
    /// The messages were removed, each by its number.
    pub(super) is_purged: bool,
    /// After the first of these messages is delivered, those before the second one are removed.
    pub(super) removes: Option<(u64, u64)>,
    /// For each consumer, the last message that its server has when it is made, and at each pull. The last ones stay.
    pub(super) has: Vec<Vec<u64>>,
    /// How often a consumer is removed before the cluster knows it.
    pub(super) unknown: usize,
    /// Questions about the stream.
    pub(super) asked: usize,
    /// Consumers that were made.
    pub(super) made: usize,
    /// The pulls of a consumer, and one more, at each question about it.
    pub(super) asked_after: Vec<usize>,
    /// Requests to remove one.
    pub(super) removals: Vec<String>,
    /// The consumer delivers nothing.
    pub(super) is_stalled: bool,
    /// The next message of the consumer, its number, and its pulls.
    pub(super) next: u64,
    pub(super) number: u64,
    pub(super) pulls: usize,
}

impl Replica {
    /// Serves clients until the process ends. Returns the address.
    pub(super) fn serve(self) -> (String, Arc<Mutex<Self>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(self));
        let replica = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let replica = Arc::clone(&replica);
                thread::spawn(move || Client::new(client).run(&replica));
            }
        });
        (url, shared)
    }

    fn at(list: &[u64], index: usize) -> u64 {
        list.get(index)
            .or_else(|| list.last())
            .copied()
            .unwrap_or_default()
    }

    /// The last message that the server of the consumer has.
    fn last(&self) -> u64 {
        let of = self.has.get(self.made - 1).or_else(|| self.has.last());
        Self::at(of.unwrap(), self.pulls)
    }

    /// The first message that is not removed.
    fn first(&self) -> u64 {
        let removed = self.removes.filter(|(after, _)| *after < self.next);
        removed.map_or(1, |(_, first)| first)
    }

    fn leader(&self) -> u64 {
        Self::at(&self.leader, self.asked.saturating_sub(1))
    }

    /// The answer to a request.
    fn answer(&mut self, api: &str, request: &Value) -> Value {
        match api {
            "STREAM.INFO.blocksd" => {
                self.asked += 1;
                json!({
                    "config": {
                        "name": "blocksd", "subjects": ["blocksd.main.>"], "retention": "limits", "max_consumers": -1,
                        "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msgs_per_subject": -1, "max_msg_size": -1,
                        "discard": "old", "storage": "file", "num_replicas": 3, "duplicate_window": 0
                    },
                    "created": STORED,
                    "state": {
                        "messages": (self.leader() + 1).saturating_sub(self.first()), "bytes": 0, "first_seq": self.first(), "first_ts": STORED,
                        "last_seq": self.leader(), "last_ts": STORED, "consumer_count": 0
                    },
                })
            }
            "STREAM.MSG.GET.blocksd" if request["next_by_subj"].is_string() => {
                let last = self.kept.unwrap_or_else(|| self.leader());
                match request["seq"].as_u64().map(|it| it.max(self.first())) {
                    Some(next) if next <= last => {
                        json!({ "message": { "subject": "", "seq": next, "time": stored(next) } })
                    }
                    _ => json!({ "error": { "code": 404, "err_code": 10037, "description": "" } }),
                }
            }
            "STREAM.MSG.GET.blocksd" if self.hides_last && !request["seq"].is_u64() => {
                json!({ "error": { "code": 404, "err_code": 10037, "description": "" } })
            }
            "STREAM.MSG.GET.blocksd" if request["seq"].is_u64() && !self.is_purged => {
                let sequence = &request["seq"];
                json!({ "message": { "subject": "", "seq": sequence, "time": STORED, "hdrs": HEADERS, "data": "" } })
            }
            "STREAM.MSG.GET.blocksd" if request["seq"].is_u64() => {
                json!({ "error": { "code": 404, "err_code": 10037, "description": "" } })
            }
            "STREAM.MSG.GET.blocksd" => match self.kept.unwrap_or_else(|| self.leader()) {
                last if last < self.first() => {
                    json!({ "error": { "code": 404, "err_code": 10037, "description": "" } })
                }
                last => json!({ "message": { "subject": "", "seq": last, "time": stored(last) } }),
            },
            "CONSUMER.CREATE.blocksd" => {
                self.made += 1;
                (self.number, self.pulls) = (0, 0);
                let config = &request["config"];
                let from = config["opt_start_seq"].as_u64().unwrap_or(1);
                // As servers do that lag.
                let is_of_last = config["deliver_policy"] == "last_per_subject";
                self.is_stalled = self.stalls && is_of_last;
                self.next = match is_of_last {
                    true => self.last(),
                    false => from.min(self.last() + 1),
                };
                self.pulls = 1;
                self.info()
            }
            _ if api.starts_with("CONSUMER.INFO.") => {
                self.asked_after.push(self.pulls);
                self.info()
            }
            _ => {
                self.removals.push(api.to_owned());
                match self.removals.len() <= self.unknown {
                    true => {
                        json!({ "error": { "code": 404, "err_code": 10014, "description": "" } })
                    }
                    false => json!({ "success": true }),
                }
            }
        }
    }

    fn info(&self) -> Value {
        json!({
            "stream_name": "blocksd", "name": format!("c{}", self.made), "created": STORED,
            "config": { "deliver_policy": "all", "ack_policy": "none", "replay_policy": "instant" },
            "delivered": { "consumer_seq": self.number, "stream_seq": self.next - 1 },
            "ack_floor": { "consumer_seq": 0, "stream_seq": 0 },
            "num_ack_pending": 0, "num_redelivered": 0, "num_waiting": 0,
            "num_pending": (self.last() + 1).saturating_sub(self.next),
        })
    }
}

/// The connection of a client.
struct Client {
    stream: BufReader<TcpStream>,
    /// What it has subscribed to.
    subscriptions: Vec<(String, String)>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream: BufReader::new(stream),
            subscriptions: Vec::new(),
        }
    }

    fn run(mut self, replica: &Mutex<Replica>) {
        let version = match replica.lock().unwrap().stalls {
            true => "2.9.10",
            false => "2.12.0",
        };
        let info = json!({
            "server_id": "A", "version": version, "host": "127.0.0.1", "port": 4222, "headers": true,
            "max_payload": 1 << 20, "proto": 1, "jetstream": true
        });
        self.write(format!("INFO {info}\r\n").as_bytes());
        let mut line = String::new();
        while self.stream.read_line(&mut line).is_ok_and(|len| len != 0) {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            match words[..] {
                ["PING"] => self.write(b"PONG\r\n"),
                ["SUB", subject, id] => {
                    let subject = subject.trim_end_matches('*').to_owned();
                    self.subscriptions.push((subject, id.to_owned()));
                }
                ["PUB", subject, reply, len] => {
                    let mut body = vec![0; len.parse::<usize>().unwrap() + 2];
                    self.stream.read_exact(&mut body).unwrap();
                    let request = serde_json::from_slice(&body).unwrap_or_default();
                    let api = subject.trim_start_matches("$JS.API.");
                    let mut replica = replica.lock().unwrap();
                    match api.starts_with("CONSUMER.MSG.NEXT.") {
                        true => self.deliver(&mut replica, reply, &request),
                        false => {
                            let answer = replica.answer(api, &request).to_string();
                            let id = self.subscription(reply);
                            let len = answer.len();
                            self.write(
                                format!("MSG {reply} {id} {len}\r\n{answer}\r\n").as_bytes(),
                            );
                        }
                    }
                }
                _ => {}
            }
            line.clear();
        }
    }

    /// Delivers what the server has, at most as many as are requested.
    fn deliver(&mut self, replica: &mut Replica, reply: &str, request: &Value) {
        let id = self.subscription(reply);
        let last = replica.last();
        replica.pulls += 1;
        if replica.is_stalled {
            return;
        }
        for _ in 0..request["batch"].as_u64().unwrap() {
            if last < replica.next && request["no_wait"] != true {
                // The next pull gets what comes.
                return;
            }
            if last < replica.next {
                let status = "NATS/1.0 404 No Messages\r\n\r\n";
                let len = status.len();
                self.write(format!("HMSG {reply} {id} {len} {len}\r\n{status}\r\n").as_bytes());
                return;
            }
            let sequence = replica.next;
            (replica.next, replica.number) = (sequence + 1, replica.number + 1);
            replica.next = replica.next.max(replica.first());
            let pending = last - sequence;
            let ack = format!(
                "$JS.ACK.blocksd.c{}.1.{sequence}.{}.{}.{pending}",
                replica.made,
                replica.number,
                stored_ns(sequence)
            );
            self.write(format!("MSG blocksd.main.dev.d {id} {ack} 1\r\nx\r\n").as_bytes());
        }
    }

    fn subscription(&self, subject: &str) -> String {
        let mut all = self.subscriptions.iter().rev();
        let found = all.find(|(of, _)| subject.starts_with(of.as_str()));
        found.unwrap().1.clone()
    }

    fn write(&mut self, bytes: &[u8]) {
        // Fails if the client has ended.
        self.stream.get_mut().write_all(bytes).ok();
    }
}
