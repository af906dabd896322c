//! Tests of [`Line`] over a pair of sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use tokio::net::UnixStream;

use super::*;

/// A pseudo-terminal without the terminal: a socket that is answered.
#[derive(Debug)]
struct Answered(UnixStream);

impl Port for Answered {
    const HAS_REPLIES: bool = true;

    fn poll_readable(&self, _: &mut Context<'_>) -> Option<Poll<io::Result<()>>> {
        None
    }

    fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let socket = socket2::SockRef::from(&self.0);
        (&*socket).read(bytes)
    }
}

impl AsyncRead for Answered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Answered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn line() -> (Line<Answered>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let line = Line::new("test".into());
    line.open(Answered(near));
    (line, far)
}

#[tokio::test]
async fn bytes_that_are_put_back_are_read_first_by_the_next_connection() {
    let (line, mut far) = line();
    far.write_all(b"onetwo").await.unwrap();
    let mut first = line.connect();
    let mut bytes = [0; 6];
    first.read_exact(&mut bytes).await.unwrap();
    far.write_all(b"three").await.unwrap();
    first.put_back(b"two");
    drop(first);
    line.released().await;
    let mut second = line.connect();
    let mut bytes = [0; 8];
    second.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"twothree");
}

#[tokio::test]
async fn a_line_that_is_closed_is_read_to_the_end_of_what_has_arrived() {
    let (line, mut far) = line();
    let mut connection = line.connect();
    let sent = vec![b'x'; 3 * CHUNK];
    far.write_all(&sent).await.unwrap();
    connection.read_exact(&mut [0; 1]).await.unwrap();
    line.close();
    assert!(!line.is_open());
    // The port is closed, and the connection has not read yet.
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    let mut read = Vec::new();
    connection.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len() + 1, sent.len());
}

#[tokio::test]
async fn a_connection_that_waits_notices_that_the_line_is_closed() {
    let (line, _far) = line();
    let mut connection = line.connect();
    let reading = tokio::spawn(async move { connection.read(&mut [0; 8]).await.unwrap() });
    tokio::task::yield_now().await;
    line.close();
    assert_eq!(reading.await.unwrap(), 0);
    line.released().await;
}

#[tokio::test]
async fn a_device_that_sends_before_it_reads_can_go_on_while_a_reply_waits() {
    let (line, mut far) = line();
    let mut connection = line.connect();
    // More than the sockets hold.
    let reply = vec![b'r'; 4 << 20];
    let len = reply.len();
    let replying = tokio::spawn(async move {
        connection.write_all(&reply).await.unwrap();
        connection
    });
    far.write_all(&vec![b's'; READ_AHEAD]).await.unwrap();
    far.read_exact(&mut vec![0; len]).await.unwrap();
    let mut connection = replying.await.unwrap();
    connection
        .read_exact(&mut vec![0; READ_AHEAD])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_reply_that_comes_back_is_recognised_and_a_series_that_was_on_its_way_is_not() {
    let (line, mut far) = line();
    let mut first = line.connect();
    far.write_all(b"same|same|").await.unwrap();
    first.read_exact(&mut [0; 10]).await.unwrap();
    first.put_back(b"same|");
    assert!(!first.is_own_reply(1));
    first.write_all(b"same|").await.unwrap();
    drop(first);
    let mut second = line.connect();
    second.read_exact(&mut [0; 5]).await.unwrap();
    second.put_back(b"");
    assert!(!second.is_own_reply(1), "sent before the reply");
    drop(second);
    far.write_all(b"same|more").await.unwrap();
    let mut third = line.connect();
    third.read_exact(&mut [0; 9]).await.unwrap();
    third.put_back(b"more");
    assert!(third.is_own_reply(1));
}
