//! Forwards a recording that nobody writes: `forward DIR SERVER STREAM SITE`. Makes the stream if it is missing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blocksd_forward::subject::Subjects;
use blocksd_forward::{Forwarder, Forwarding, Nats, NatsOptions, Progress, Wish};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, server, stream, site] = &arguments[..] else {
        return Err("usage: forward DIR SERVER STREAM SITE".into());
    };
    let options = NatsOptions {
        servers: vec![server.clone()],
        ..NatsOptions::default()
    };
    let wish = Wish {
        stream: stream.clone(),
        subjects: Subjects::new(site),
        durable: false,
        create: true,
    };
    let nats = Nats::connect(&options, stream).await?;
    nats.check(&wish).await?;
    let folder = PathBuf::from(folder);
    let forwarding = Forwarding {
        folder,
        durability: None,
        subjects: wish.subjects,
        cursor: format!("blocksd.forward-{stream}"),
        linger: Duration::ZERO,
    };
    let progress = Arc::<Progress>::default();
    let forwarder = Forwarder::new(Arc::new(nats), forwarding, Arc::clone(&progress));
    forwarder.finish();
    forwarder.run().await?;
    println!("{:?}", progress.read());
    Ok(())
}
