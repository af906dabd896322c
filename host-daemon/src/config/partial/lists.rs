//! The options that may be given more than once, each with options of its own: [`LISTEN`] and [`FORWARD`].

use crate::config::forward::ForwardConfig;
use crate::config::partial::{ListenerConfig, Spec};
use crate::config::spec::{HelpGroup, Kind, Reload, Written};

/// Addresses to listen on.
pub(super) const LISTEN: Spec = Spec {
    key: "listen",
    value: "ADDR[,KEY=VALUE]...",
    kind: Kind::List,
    reload: Reload::Listeners,
    help: " Address to listen on: HOST:PORT, unix:PATH, serial:PATH?baud=N, - for standard input, or systemd or \
           systemd:NAME for sockets passed by systemd. Options after a comma apply to this listener only: framing=SPEC, \
           decode=..., max-block=BYTES, max-skip=BYTES, oversize=skip|close|pieces, after-end=close|continue, session=auto|required|off. With tls-cert=FILE and \
           tls-key=FILE, devices connect with TLS, and need a certificate of tls-ca=FILE; further: tls-crl=FILE, \
           tls-allow=FILE, tls-clients=require|offer|none, tls-min=1.2|1.3. proxy-from=CIDR: \
           proxies, whose connections begin with a header of the PROXY protocol.",
    default: Some("127.0.0.1:1060"),
    set: |partial, input| {
        let listener = ListenerConfig::parse(input.text, input.origin)?;
        partial.listeners.push(listener);
        Ok(())
    },
    given: |partial| {
        partial.listeners.first().map(|listener| Written {
            text: &listener.address,
            origin: listener.origin,
            key: "listen",
        })
    },
    ..Spec::BASE
};

/// Clusters that the recording is forwarded to.
pub(super) const FORWARD: Spec = Spec {
    key: "forward",
    value: "SERVER[,SERVER]...[,KEY=VALUE]...",
    group: HelpGroup::Recording,
    kind: Kind::List,
    needs_record: true,
    help: " Forward the recording to a NATS JetStream cluster: nats://HOST:PORT or tls://HOST:PORT, and further servers of the \
           cluster. Options: stream=NAME (blocksd), site=NAME (main), keep=forwarded|any, ack=recorded|forwarded, durable=true|false, create=true|false, linger=TIME (0s), \
           ca=FILE, cert=FILE, key=FILE, user=NAME and password=FILE, token=FILE, nkey=FILE, credentials=FILE.",
    set: |partial, input| {
        let forward = ForwardConfig::parse(input.text, input.origin)?;
        partial.forwards.push(forward);
        Ok(())
    },
    given: |partial| {
        partial.forwards.first().map(|forward| Written {
            text: forward.servers().first().map_or("", |it| it),
            origin: forward.origin(),
            key: "forward",
        })
    },
    differs: |one, other| one.forwards != other.forwards,
    keep: |config, from| config.forwards = from.forwards.clone(),
    ..Spec::BASE
};
