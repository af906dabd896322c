//! Which recordings are forwarded to a stream: [`writers`].

use async_nats::jetstream::stream::InfoWithSubjects;
use futures_util::StreamExt as _;

use crate::stream::Writers;
use crate::subject::Subjects;

/// The recordings whose events are listed.
pub(super) async fn writers(mut listed: InfoWithSubjects, subjects: Option<&Subjects>) -> Writers {
    let mut writers = Writers::None;
    while writers != Writers::Several
        && let Some(event) = listed.next().await
    {
        let instance = event.ok().and_then(|it| subjects?.instance_of(&it.0));
        writers = writers.and(instance.and_then(|it| it.parse().ok()));
    }
    writers
}
