package blocks

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// hostTime is the time of the hosts of these tests, in ns since 1970.
const hostTime = 1_795_755_600_000_000_000

// host listens, and passes each connection to a function. It returns its address.
func host(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			talk(conn)
		}
	}()
	return listener.Addr().String()
}

// welcome answers HELLO, and asserts nothing about it.
func welcome(conn net.Conn) {
	_, _ = io.CopyN(io.Discard, conn, 4+48+1)
	frame := binary.BigEndian.AppendUint64([]byte{0, 0, 0, 44}, typeWelcome<<56)
	frame = binary.BigEndian.AppendUint64(frame, 0)
	frame = binary.BigEndian.AppendUint64(frame, 9)
	frame = binary.BigEndian.AppendUint64(frame, hostTime)
	frame = binary.BigEndian.AppendUint32(frame, 1000)
	frame = append(frame, 0, 30, 0, 1, 0, 0, 0, 0)
	_, _ = conn.Write(frame)
}

func readAll(conn net.Conn) {
	_, _ = io.Copy(io.Discard, conn)
	conn.Close()
}

// start starts a sender.
func start(t *testing.T, address string, room int, config *tls.Config) *Sender {
	t.Helper()
	sender, err := NewSender(Options{Address: address, Device: "d", Room: room, BackoffMax: time.Millisecond, TLS: config})
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

// closeNow closes a sender that has a message, and does not wait for an acknowledgement.
func closeNow(t *testing.T, sender *Sender) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	begun := time.Now()
	err := sender.Close(ctx)
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("Close took %v", took)
	}
	var loss *LossError
	if !errors.As(err, &loss) || loss.Unacknowledged == 0 || !errors.Is(err, context.Canceled) {
		t.Fatalf("the result of Close is %v", err)
	}
}

// next returns the number of the next message that is sent.
func (s *Sender) next() uint64 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.session.next
}

func waitUntil(t *testing.T, what string, isTrue func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !isTrue(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in a minute: %s", what)
		}
	}
}

func TestCloseEndsAllGoroutines(t *testing.T) {
	secure := httptest.NewTLSServer(nil) // Its certificate is of use.
	defer secure.Close()
	client := secure.Client().Transport.(*http.Transport).TLSClientConfig
	taken := make(chan net.Conn, 16)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	addresses := map[string]string{
		"nobody listens":     closed.Addr().String(),
		"no WELCOME":         host(t, func(conn net.Conn) { taken <- conn }),
		"no acknowledgement": host(t, func(conn net.Conn) { welcome(conn); go readAll(conn) }),
		"no reading":         host(t, func(conn net.Conn) { welcome(conn); taken <- conn }),
		"no reading, TLS":    host(t, func(conn net.Conn) { conn = tls.Server(conn, secure.TLS); welcome(conn); taken <- conn }),
	}
	for name, address := range addresses {
		t.Run(name, func(t *testing.T) {
			// The hosts are listening, and each connection of one that reads has a goroutine until it ends.
			before := runtime.NumGoroutine()
			config := client
			if !strings.HasSuffix(name, "TLS") {
				config = nil
			}
			sender := start(t, address, 8<<20, config)
			message := make([]byte, 1000)
			for sender.TryPush(message) == nil {
			}
			isReading := !strings.HasPrefix(name, "no reading")
			if name == "no acknowledgement" || !isReading {
				waitUntil(t, "a WELCOME", func() bool { return sender.Counts().Session == 9 })
			}
			if !isReading {
				waitUntil(t, "a write waits for the host", func() bool {
					before := sender.next()
					time.Sleep(100 * time.Millisecond)
					return before > 0 && before == sender.next()
				})
			}
			closeNow(t, sender)
			waitUntil(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
			if err := sender.TryPush(message); !errors.Is(err, ErrClosed) {
				t.Fatalf("after Close: %v", err)
			}
			if err := sender.Close(context.Background()); err == nil {
				t.Fatal("a second Close has another result")
			}
		})
	}
	for len(taken) > 0 {
		(<-taken).Close()
	}
}

func TestPushWaitsForAPlace(t *testing.T) {
	sender := start(t, host(t, func(conn net.Conn) { welcome(conn); go readAll(conn) }), 5, nil)
	push := func(ctx context.Context) error { return sender.Push(ctx, []byte("b")) }
	if err := sender.TryPush([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := sender.TryPush([]byte("b")); !errors.Is(err, ErrFull) {
		t.Fatalf("a full ring: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	results := make(chan error)
	go func() { results <- push(ctx) }()
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Fatalf("the context is done: %v", err)
	}
	go func() { results <- push(context.Background()) }()
	closeNow(t, sender)
	if err := <-results; !errors.Is(err, ErrClosed) {
		t.Fatalf("the sender is closed: %v", err)
	}
}

func TestMessagesThatCannotBeSentAreRefused(t *testing.T) {
	sender := start(t, host(t, func(conn net.Conn) { welcome(conn); go readAll(conn) }), 2000, nil)
	waitUntil(t, "a WELCOME", func() bool { return sender.Counts().Session == 9 })
	var length *LengthError
	if err := sender.TryPush(nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("an empty message: %v", err)
	}
	if err := sender.TryPush(make([]byte, 1001)); !errors.As(err, &length) || *length != (LengthError{1001, 1000, true}) {
		t.Errorf("longer than the host takes: %v", err)
	}
	if err := sender.TryPush(make([]byte, 1997)); !errors.As(err, &length) || *length != (LengthError{1997, 1996, false}) {
		t.Errorf("longer than the ring: %v", err)
	}
	if err := sender.Close(context.Background()); err != nil {
		t.Errorf("the result of Close is %v", err)
	}
}

func TestHostTimeContinuesTheClockOfTheHost(t *testing.T) {
	before := time.Now()
	sender := start(t, host(t, func(conn net.Conn) { welcome(conn); go readAll(conn) }), 2000, nil)
	defer sender.Close(context.Background())
	waitUntil(t, "a WELCOME", func() bool { _, isKnown := sender.HostTime(); return isKnown })
	now, _ := sender.HostTime()
	if since := now.Sub(time.Unix(0, hostTime)); since < 0 || since > time.Since(before) {
		t.Errorf("%v after the WELCOME", since)
	}
}

func TestWaitsAreDoubledWithARandomPart(t *testing.T) {
	options := Options{Address: "localhost:1", Device: "d"}
	if err := options.complete(); err != nil {
		t.Fatal(err)
	}
	sender := Sender{options: options}
	// delay asserts the wait after an error: at most longest, and at least the half.
	delay := func(err error, longest time.Duration) time.Duration {
		t.Helper()
		wait := sender.delayAfter(err)
		if wait > longest || wait < longest/2 {
			t.Errorf("%v after %v, not up to %v", wait, err, longest)
		}
		return wait
	}
	waits := map[time.Duration]bool{}
	for _, longest := range []time.Duration{500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000} {
		waits[delay(io.EOF, longest*time.Millisecond)] = true
	}
	for attempt := 0; attempt < 20; attempt++ {
		waits[delay(io.EOF, time.Minute)] = true
	}
	if len(waits) < 20 {
		t.Errorf("only %d different waits", len(waits))
	}
	for _, code := range []byte{CodeVersion, CodeBadHello, CodeForbidden, CodeUnsupported, CodeNoSession} {
		delay(&ClosingError{Code: code}, 10*time.Minute)
	}
	delay(&BrokenHostError{}, time.Minute)
	delay(&ClosingError{Code: 77}, time.Minute)
	for _, exact := range []struct {
		err  ClosingError
		wait time.Duration
	}{
		{ClosingError{Code: CodeFull}, 0},
		{ClosingError{Code: CodeFull, Retry: 3 * time.Second}, 3 * time.Second},
		{ClosingError{Code: CodeShutdown, Retry: time.Hour}, time.Hour},
		{ClosingError{Code: CodeSuperseded}, time.Second},
		{ClosingError{Code: CodeSuperseded}, time.Second},
		{ClosingError{Code: CodeSuperseded}, time.Minute},
	} {
		if wait := sender.delayAfter(&exact.err); wait != exact.wait {
			t.Errorf("%v after %v, not %v", wait, exact.err, exact.wait)
		}
	}
	sender.attempts = 0
	if wait := sender.delayAfter(&ClosingError{Code: CodeAgain}); wait != 0 {
		t.Errorf("%v after the first code 7", wait)
	}
	delay(&ClosingError{Code: CodeAgain}, time.Second)
	if sender.errors != 2 {
		t.Errorf("%d errors of the protocol", sender.errors)
	}
}
