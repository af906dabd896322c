//! Lets other futures run although a transport never waits: [`Fair`].

use embassy_futures::yield_now;
use embedded_io_async::{ErrorType, Read, Write};

/// A transport. Before every 256th operation, the time limits of the uplink and other tasks run: a peer that floods it would
/// otherwise starve them.
pub(crate) struct Fair<T> {
    io: T,
    operations: u8,
}

impl<T> Fair<T> {
    pub(crate) const fn new(io: T) -> Self {
        Self { io, operations: 0 }
    }

    async fn pass(&mut self) {
        self.operations = self.operations.wrapping_add(1);
        if self.operations == 0 {
            yield_now().await;
        }
    }
}

impl<T: ErrorType> ErrorType for Fair<T> {
    type Error = T::Error;
}

impl<T: Read> Read for Fair<T> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
        self.pass().await;
        self.io.read(buf).await
    }
}

impl<T: Write> Write for Fair<T> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Self::Error> {
        self.pass().await;
        self.io.write(buf).await
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.io.flush().await
    }
}
