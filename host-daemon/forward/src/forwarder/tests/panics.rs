//! A panic in the thread that reads the recording ends the future of the forwarder, so that its owner notices it.

use super::lost::SimpleStream;
use super::*;

/// Panics when it is asked for sessions, which the reading thread does.
struct Panics;

impl Confirm for Panics {
    fn stored(&self, _: &str, _: &str, _: u64, _: u64) {}

    fn unsettled(&self, _: bool) -> Vec<Unsettled> {
        panic!("on purpose");
    }

    fn settled(&self, _: &Unsettled, _: &[(u64, u64)]) {}

    fn gap(&self, _: &[u8]) -> Option<NumberGap> {
        None
    }
}

#[tokio::test]
async fn a_panic_of_the_reading_thread_is_one_of_the_forwarder() {
    let folder = tempfile::tempdir().unwrap();
    let forwarding = Forwarding {
        folder: folder.path().to_owned(),
        durability: None,
        subjects: Subjects::new("main"),
        cursor: "cursor".to_owned(),
        linger: Duration::ZERO,
    };
    let stream = Arc::<SimpleStream>::default();
    let forwarder = Forwarder::new(stream, forwarding, Arc::default());
    let forwarder = forwarder.confirming(Arc::new(Panics));
    let task = tokio::spawn(async move { forwarder.run().await });
    let ended = tokio::time::timeout(Duration::from_secs(30), task).await;
    let error = ended.unwrap().unwrap_err();
    let panic = error.into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
}
