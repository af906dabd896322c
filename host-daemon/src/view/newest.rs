//! The newest messages of devices that sent them while nobody looked: [`View::look_for_newest`] takes them from the recording.
//! They are what people look for when a device is silent or gone.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::api::devices::LatestMessage;
use crate::fields::FieldRow;
use crate::payload::{self, Style};
use crate::recorded::time::{Time, nanoseconds, system_time};
use crate::service::priority;
use crate::view::View;
use crate::view::fields::{cut, first_values};
use crate::view::history::{Past, PastSink};
use crate::view::reading::{NewestMessage, TEXT_MAX, VALUES_MAX};

/// How long before a device was last seen its newest message is looked for, in nanoseconds.
const BEFORE_NS: u64 = 2_000_000_000;
/// Longest time for which messages are looked for at once.
const BUDGET: Duration = Duration::from_secs(3);

/// A device, and when it was last seen.
pub(super) type SeenDevice = (Arc<str>, SystemTime);

impl View {
    /// Looks for the newest messages of these devices, in a task.
    pub(super) fn look_for_newest(self: &Arc<Self>, devices: Vec<SeenDevice>) {
        let Some(recording) = &self.recording else {
            return;
        };
        let directory = recording.directory.clone();
        let view = Arc::clone(self);
        let Ok(place) = Arc::clone(&self.readings).try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            let _place = place;
            // The semaphore is never closed.
            let _permit = view.past.acquire().await;
            let look = {
                let view = Arc::clone(&view);
                move || {
                    let until = Instant::now() + BUDGET;
                    for (device, seen) in devices {
                        let seen = nanoseconds(seen);
                        let past = Past {
                            directory: directory.clone(),
                            device: device.to_string(),
                            from: seen.saturating_sub(BEFORE_NS),
                            to: seen.saturating_add(1),
                        };
                        let mut newest = NewestRow::default();
                        // Without the recording, the message is not known.
                        let _ = past.read(&mut newest);
                        if let Some(newest) = newest.whole {
                            view.lock().watched.set_recorded(&device, newest);
                        }
                        if until < Instant::now() {
                            return;
                        }
                    }
                }
            };
            priority::run_low("view-newest", look).await;
        });
    }
}

/// The last message of the newest part that has one.
#[derive(Default)]
struct NewestRow {
    /// The last one so far of a part that has not ended.
    last: Option<NewestMessage>,
    whole: Option<NewestMessage>,
}

impl PastSink for NewestRow {
    fn row(&mut self, row: &FieldRow<'_>) -> bool {
        self.last = Some(recorded(row));
        true
    }

    fn end_part(&mut self) -> bool {
        self.whole = self.last.take();
        self.whole.is_none()
    }
}

/// A recorded message, for a list of devices.
fn recorded(row: &FieldRow<'_>) -> NewestMessage {
    let mut text = String::new();
    let value = payload::Value::json(row.object);
    if value.write(Style::Fields, &mut text).is_err() {
        text = String::from_utf8_lossy(row.object).into_owned();
    }
    NewestMessage {
        message: LatestMessage {
            time: Time(system_time(row.received)),
            seq: row.seq,
            len: row.len as u64,
            text: cut(&text, TEXT_MAX),
        },
        values: first_values(row.object, VALUES_MAX),
    }
}
