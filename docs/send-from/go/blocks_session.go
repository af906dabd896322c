// Package blocks sends messages over an acknowledged session of the framing blocks, as docs/sessions.md describes it. Start with
// NewSender. Without a session, AppendBlock and AppendCobsCRC32 frame one message.
//
// Copy this file into your module: it needs Go 1.19, and nothing outside the standard library.
package blocks

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"net"
	"os"
	"regexp"
	"strconv"
	"sync"
	"time"
)

const (
	magic    = "\xff\xc1blkack"
	flagTime = 2 // In HELLO: each ACK has the host's time.
	headLen  = 4 // Bytes of a message before its payload, on the wire and in the ring.
	frameMax = 44
	batchLen = 16_384 // Messages are written together up to this length: that of the longest record of TLS.

	typeWelcome, typeAck, typeCont, typeClosing = 1, 2, 3, 0x0f

	welcomeTimeout   = 10 * time.Second
	closeTimeout     = time.Second
	supersededWindow = time.Minute
)

// Codes of CLOSING.
const (
	CodeVersion = iota + 1
	CodeBadHello
	CodeForbidden
	CodeFull
	CodeSuperseded
	CodeUnsupported
	CodeAgain
	CodeShutdown
	CodeProtocol
	CodeNoSession
)

var codeNames = [...]string{"", "version", "bad_hello", "forbidden", "full", "superseded", "unsupported", "again", "shutdown",
	"protocol", "no_session"}

var (
	// ErrFull reports that the ring has no place for the message.
	ErrFull = errors.New("the ring is full")
	// ErrEmpty reports a message without a byte, which cannot be sent.
	ErrEmpty = errors.New("a message has 1 or more bytes")
	// ErrClosed reports a message after Close.
	ErrClosed = errors.New("the sender was closed")
)

// LengthError reports a message that can never be sent.
type LengthError struct {
	Len, Max int
	// ByHost is true if the host takes no longer messages, and false if the ring is too short.
	ByHost bool
}

func (e *LengthError) Error() string {
	if e.ByHost {
		return fmt.Sprintf("a message of %d bytes is longer than the host takes: %d bytes", e.Len, e.Max)
	}
	return fmt.Sprintf("a message of %d bytes does not fit into the ring: at most %d bytes", e.Len, e.Max)
}

// BrokenHostError reports that the host broke the protocol. Nothing was removed from the ring.
type BrokenHostError struct{ Reason string }

func (e *BrokenHostError) Error() string { return "the host broke the protocol: " + e.Reason }

// ClosingError reports that the host sent CLOSING.
type ClosingError struct {
	Code  byte
	Retry time.Duration // The shortest time before the next connection.
	Text  string
}

func (e *ClosingError) Error() string {
	name := strconv.Itoa(int(e.Code))
	if e.Code > 0 && int(e.Code) < len(codeNames) {
		name = codeNames[e.Code]
	}
	return fmt.Sprintf("the host closes: %s, retry in %v at the earliest: %q", name, e.Retry, e.Text)
}

// LossError is the result of Close if a message is not known to be recorded.
type LossError struct {
	Unacknowledged int    // Messages in the ring: the host may have them.
	Dropped        uint64 // Messages that a full ring dropped before they were acknowledged.
	TooLong        uint64 // Messages that the host refused, since they were pushed before it said how long a message may be.
	Cause          error  // Why Close did not wait longer.
}

func (e *LossError) Error() string {
	return fmt.Sprintf("%d messages not acknowledged, %d dropped, %d too long", e.Unacknowledged, e.Dropped, e.TooLong)
}

// Unwrap returns why Close did not wait longer.
func (e *LossError) Unwrap() error { return e.Cause }

// AppendBlock appends a message of blocks: its length and its payload, of 1 or more bytes.
func AppendBlock(dst, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(payload))), payload...)
}

// AppendEnd appends the end of a series of blocks.
func AppendEnd(dst []byte) []byte {
	return append(dst, 0, 0, 0, 0)
}

// AppendCobsCRC32 appends a message of cobs-crc32, for a serial line: the payload and its CRC-32, escaped, and a zero.
func AppendCobsCRC32(dst, payload []byte) []byte {
	var check [4]byte
	binary.BigEndian.PutUint32(check[:], crc32.ChecksumIEEE(payload))
	codeAt := len(dst) // The code of the group that is open: its length.
	dst = append(dst, 0)
	for _, part := range [][]byte{payload, check[:]} {
		for _, b := range part {
			if len(dst)-codeAt == 255 { // A group of 254 bytes that no zero follows.
				dst[codeAt] = 255
				codeAt = len(dst)
				dst = append(dst, 0)
			}
			if b != 0 {
				dst = append(dst, b)
				continue
			}
			dst[codeAt] = byte(len(dst) - codeAt)
			codeAt = len(dst)
			dst = append(dst, 0)
		}
	}
	dst[codeAt] = byte(len(dst) - codeAt)
	return append(dst, 0)
}

// Options of a Sender. A value of 0 stands for the default.
type Options struct {
	// Address is the HOST:PORT of the daemon.
	Address string
	// Device is the device id: 1 to 64 of A-Z a-z 0-9 . _ : -
	Device string
	// Room is the length of the ring in bytes, by default 65,536. Each message takes 4 bytes more than its payload.
	Room int
	// DropOldest drops the oldest messages if the ring is full. The host records a gap.
	DropOldest bool
	// Heartbeat is the wished time between two frames of the host, by default 30 s. After three times the host's heartbeat
	// without a byte, the sender connects again.
	Heartbeat time.Duration
	// WantTime asks for the host's time in each ACK, for HostTime.
	WantTime bool
	// BackoffMin and BackoffMax are the shortest and the longest wait before the next attempt, by default 0.5 s and 60 s.
	BackoffMin, BackoffMax time.Duration
	// BackoffLong is the wait after a refusal that a person must look at, by default 10 min.
	BackoffLong time.Duration
	// TLS, if it is not nil, connects over TLS. Its ServerName is by default the host of the address.
	TLS *tls.Config
	// Report is called after each interruption, from a goroutine of the sender. It must not call Close.
	Report func(error)
}

var deviceID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// complete checks the options, and sets the defaults.
func (o *Options) complete() error {
	host, port, err := net.SplitHostPort(o.Address)
	if number, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || host == "" || number == 0 {
		return fmt.Errorf("not HOST:PORT: %s", o.Address)
	}
	if !deviceID.MatchString(o.Device) {
		return fmt.Errorf("invalid device id %q: 1 to 64 of A-Z a-z 0-9 . _ : -", o.Device)
	}
	if o.Room < 0 || uint64(o.Room) > math.MaxUint32 {
		return fmt.Errorf("invalid length of the ring %d: below 2^32", o.Room)
	}
	if o.Heartbeat < 0 || o.Heartbeat > 2540*time.Second {
		return fmt.Errorf("invalid heartbeat of %v: at most 2540 s", o.Heartbeat)
	}
	if o.Room == 0 {
		o.Room = 65_536
	}
	for _, it := range []struct {
		value     *time.Duration
		otherwise time.Duration
	}{{&o.Heartbeat, 30 * time.Second}, {&o.BackoffMin, time.Second / 2}, {&o.BackoffMax, time.Minute}, {&o.BackoffLong, 10 * time.Minute}} {
		if *it.value <= 0 {
			*it.value = it.otherwise
		}
	}
	if o.TLS != nil {
		o.TLS = o.TLS.Clone()
		if o.TLS.MinVersion == 0 {
			o.TLS.MinVersion = tls.VersionTLS12
		}
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	return nil
}

// Sender sends messages, and connects again after each interruption. Its methods may be called from any goroutine.
type Sender struct {
	options Options
	stop    context.CancelFunc
	stopped chan struct{} // Closed when the goroutines have ended.
	wake    chan struct{} // Has a token if there may be something to write.

	mutex      sync.Mutex // Of all fields below.
	session    session
	changed    chan struct{} // Closed, and replaced, when something was acknowledged.
	isClosing  bool
	attempts   int // Without progress.
	superseded []time.Time
	endBy      time.Time     // When the connection that ends is closed at the latest; else zero.
	offset     time.Duration // The host's clock, in ns since 1970, minus that of `uptime`; 0 if unknown.
	errors     uint64        // Faults of the host and of this sender in the protocol.
}

// NewSender starts a sender. Close ends it.
func NewSender(options Options) (*Sender, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Sender{options: options, stop: stop, stopped: make(chan struct{}), wake: make(chan struct{}, 1),
		session: session{device: options.Device, room: options.Room, dropOldest: options.DropOldest,
			heartbeat: byte((options.Heartbeat + 10*time.Second - 1) / (10 * time.Second)), wantTime: options.WantTime},
		changed: make(chan struct{})}
	go s.run(ctx)
	return s, nil
}

// TryPush keeps a copy of a message until the host has it. It returns at once: with ErrFull if the ring is full, ErrClosed,
// ErrEmpty or a *LengthError.
func (s *Sender) TryPush(payload []byte) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.isClosing {
		return ErrClosed
	}
	err := s.session.push(payload)
	s.wakeWriter()
	return err
}

// Push is TryPush, but waits while the ring is full, until the context is done.
func (s *Sender) Push(ctx context.Context, payload []byte) error {
	for {
		s.mutex.Lock()
		changed := s.changed
		s.mutex.Unlock()
		if err := s.TryPush(payload); !errors.Is(err, ErrFull) {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close waits until every message is acknowledged or the context is done, and ends the sender. Ending a connection can take a few
// seconds more. It returns nil only if every message is durable at the host, and else a *LossError.
func (s *Sender) Close(ctx context.Context) error {
	var cause error
	s.mutex.Lock()
	s.isClosing = true
	s.notify()
	for len(s.session.ring) > 0 && cause == nil {
		changed := s.changed
		s.mutex.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			cause = ctx.Err()
		case <-s.stopped: // By another Close.
			cause = ErrClosed
		}
		s.mutex.Lock()
	}
	s.mutex.Unlock()
	s.stop()
	<-s.stopped
	counts := s.Counts()
	if counts.Held == 0 && counts.Dropped == 0 && counts.RefusedByHost == 0 {
		return nil
	}
	return &LossError{counts.Held, counts.Dropped, counts.RefusedByHost, cause}
}

// Counts of a sender.
type Counts struct {
	Session        uint64 // The number of the session; 0 before the first WELCOME.
	Held           int    // Messages in the ring.
	Acked          uint64 // All messages with smaller numbers are decided and durable.
	Dropped        uint64 // Messages that a full ring dropped.
	RefusedByHost  uint64 // Acknowledged, but longer than the host takes: not recorded.
	ProtocolErrors uint64
}

// Counts returns the counts of this moment.
func (s *Sender) Counts() Counts {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return Counts{s.session.id, len(s.session.ring), s.session.acked, s.session.dropped, s.session.refused, s.errors}
}

// HostTime returns the time of the host's clock, and whether it is known.
func (s *Sender) HostTime() (time.Time, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return time.Unix(0, int64(s.offset+time.Since(started))), s.offset != 0
}

// run connects again and again, until the context is done.
func (s *Sender) run(ctx context.Context) {
	defer close(s.stopped)
	for {
		err := s.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		if isRefusal(err) {
			err = fmt.Errorf("TLS refuses the connection: %w", err)
		}
		delay := s.delayAfter(err)
		s.options.Report(err)
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// connection runs one connection to its end, and returns why it ended.
func (s *Sender) connection(ctx context.Context) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	s.mutex.Lock()
	hello := s.session.connected(nil, uptime())
	s.endBy = time.Time{}
	s.mutex.Unlock()
	writing, stopWriting := context.WithCancel(ctx)
	defer stopWriting()
	hasRead, hasWritten := make(chan error, 1), make(chan error, 1)
	go func() { hasRead <- s.read(conn, time.Now().Add(welcomeTimeout)) }()
	go func() {
		defer close(hasWritten) // Then it can be received again.
		hasWritten <- s.write(writing, conn, hello)
	}()

	isReading := true
	var writeErr error
	select {
	case err = <-hasRead:
		isReading = false
	case writeErr = <-hasWritten:
		err = writeErr
	case <-ctx.Done(): // A write can wait for the host for long.
	}
	stopWriting()
	s.endWithin(conn, closeTimeout)
	if late := <-hasWritten; late != nil {
		writeErr = late
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && writeErr == nil {
		// An end that the host sees after the last byte, and not a reset; in TLS it is close_notify.
		_ = half.CloseWrite()
	} else if secure, ok := conn.(*tls.Conn); ok {
		defer secure.NetConn().Close() // Else Close waits up to 5 s to write close_notify.
	}
	if isReading {
		// After a failed write, the rest has acknowledgements, and perhaps the reason.
		if readErr := <-hasRead; !errors.Is(readErr, os.ErrDeadlineExceeded) {
			err = readErr
		}
	} else {
		_, _ = io.Copy(io.Discard, conn)
	}
	s.mutex.Lock()
	s.session.closed()
	s.mutex.Unlock()
	return err
}

func (s *Sender) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, welcomeTimeout)
	defer cancel()
	if s.options.TLS == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.options.Address)
	}
	return (&tls.Dialer{Config: s.options.TLS}).DialContext(ctx, "tcp", s.options.Address)
}

// read reads until the connection ends.
func (s *Sender) read(conn net.Conn, welcomeBy time.Time) error {
	buffer := make([]byte, 4096)
	for {
		silence := s.expect(conn, welcomeBy)
		count, err := conn.Read(buffer)
		if count > 0 {
			if err := s.received(buffer[:count]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("nothing read for %v: %w", silence, err)
		case errors.Is(err, io.EOF):
			return fmt.Errorf("the host closed the connection: %w", err)
		case err != nil:
			return err
		}
	}
}

// expect sets when the next byte must be read at the latest, and returns the longest silence.
func (s *Sender) expect(conn net.Conn, welcomeBy time.Time) time.Duration {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	silence, by := welcomeTimeout, welcomeBy
	if s.session.isWelcome {
		silence, by = 3*s.session.heartbeatOfHost, time.Time{}
		if silence > 0 {
			by = time.Now().Add(silence)
		}
	}
	if !s.endBy.IsZero() {
		by = s.endBy
	}
	_ = conn.SetReadDeadline(by) // An error of the connection is that of the next read, too.
	return silence
}

// endWithin limits what a connection that ends still reads and writes.
func (s *Sender) endWithin(conn net.Conn, limit time.Duration) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.endBy = time.Now().Add(limit)
	_ = conn.SetDeadline(s.endBy)
}

// write writes messages until the context is done.
func (s *Sender) write(ctx context.Context, conn net.Conn, out []byte) error {
	for ctx.Err() == nil {
		if len(out) == 0 {
			select {
			case <-ctx.Done():
			case <-s.wake:
			}
		} else if _, err := conn.Write(out); err != nil {
			return err
		}
		out = s.fill(out[:0])
	}
	return nil
}

// fill appends messages, so that one write, and one record of TLS, has many of them.
func (s *Sender) fill(out []byte) []byte {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for len(out) < batchLen {
		if s.isClosing && s.session.next == s.session.end() && s.session.inSeries {
			s.session.wantsEnd = true
		}
		before := len(out)
		if out = s.session.take(out, uptime()); len(out) == before {
			break
		}
	}
	return out
}

func (s *Sender) received(data []byte) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	id, acked := s.session.id, s.session.acked
	s.session.hostTime = 0
	err := s.session.received(data)
	if id == 0 && s.session.id != 0 || acked < s.session.acked {
		s.attempts = 0
	}
	if s.session.hostTime != 0 {
		// The host's time at the arrival is at least that of the frame, so the largest difference is the best.
		offset := time.Duration(s.session.hostTime) - time.Since(started)
		if s.offset == 0 || s.offset < offset {
			s.offset = offset
		}
	}
	s.notify()
	return err
}

// notify wakes the writer, and each Push and Close that waits.
func (s *Sender) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
	s.wakeWriter()
}

func (s *Sender) wakeWriter() {
	select {
	case s.wake <- struct{}{}:
	default: // It is awake.
	}
}

// delayAfter returns how long to wait after a connection.
func (s *Sender) delayAfter(err error) time.Duration {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var closing *ClosingError
	var broken *BrokenHostError
	switch {
	case isRefusal(err):
		return jitter(s.options.BackoffLong)
	case errors.As(err, &broken):
		s.errors++
		return s.backoff()
	case !errors.As(err, &closing):
		return s.backoff()
	}
	var delay time.Duration
	switch closing.Code {
	case CodeVersion, CodeBadHello, CodeForbidden, CodeUnsupported, CodeNoSession:
		delay = jitter(s.options.BackoffLong)
	case CodeFull:
	case CodeSuperseded:
		now, recent := time.Now(), s.superseded[:0]
		for _, at := range append(s.superseded, now) {
			if now.Sub(at) <= supersededWindow {
				recent = append(recent, at)
			}
		}
		s.superseded = recent
		delay = time.Second
		if len(recent) >= 3 {
			delay = time.Minute
		}
		if delay > s.options.BackoffMax {
			delay = s.options.BackoffMax
		}
	case CodeAgain:
		if s.attempts > 0 {
			delay = s.backoff()
		} else {
			s.attempts++
		}
	case CodeShutdown:
		delay = s.backoff()
	default:
		s.errors++
		delay = s.backoff()
	}
	if delay < closing.Retry {
		return closing.Retry
	}
	return delay
}

// backoff returns twice as long a wait after each attempt without progress.
func (s *Sender) backoff() time.Duration {
	longest := s.options.BackoffMin
	for doubled := 0; doubled < s.attempts && longest < s.options.BackoffMax; doubled++ {
		longest *= 2
	}
	s.attempts++
	if longest > s.options.BackoffMax {
		longest = s.options.BackoffMax
	}
	return jitter(longest)
}

// jitter shortens a wait to a random part of it, at least half, which keeps senders apart.
func jitter(longest time.Duration) time.Duration {
	var random [2]byte
	_, _ = rand.Read(random[:]) // Without random numbers, half of it.
	part := float64(binary.BigEndian.Uint16(random[:])) / math.MaxUint16
	return longest/2 + time.Duration(part*float64(longest/2))
}

// refusals are words of the errors of TLS that a person must look at: a later attempt hardly helps. Go 1.19 has no type for alerts.
var refusals = regexp.MustCompile(`(tls|x509): .*(certificate|authority|protocol version|handshake failure|access denied|` +
	`error decrypting|no supported versions|does not look like a TLS)`)

// isRefusal returns whether a certificate or a version was refused, by the host or by this sender.
func isRefusal(err error) bool {
	return err != nil && refusals.MatchString(err.Error())
}

var started = time.Now()

// uptime returns the clock of the sender in µs; never 0, which stands for unknown.
func uptime() uint64 {
	return uint64(time.Since(started).Microseconds()) + 1
}

// session is the state machine of a sender, without I/O: one session, its ring, and at most one connection at a time.
type session struct {
	device               string
	room                 int
	dropOldest, wantTime bool
	heartbeat            byte // The wished one, in units of 10 s.

	id       uint64
	ring     [][]byte // The payloads that are not acknowledged.
	used     int      // Bytes of them, with headLen each.
	first    uint64   // Number of the oldest in the ring.
	lost     uint32   // Messages right before it that were dropped without an acknowledgement.
	acked    uint64
	blockMax uint32 // Of the last WELCOME; 0 before it.
	dropped  uint64 // All messages that were dropped.
	refused  uint64 // Acknowledged, but longer than the host takes: not recorded.
	hostTime uint64 // The host's clock in the last frame that has it, in ns since 1970.

	isConnected, isWelcome, inSeries, wantsCont, wantsEnd bool
	next, sent                                            uint64 // The next message to send; those before sent were sent, or resume skips them.
	helloEnd                                              uint64
	heartbeatOfHost                                       time.Duration
	inbox                                                 []byte
	skip                                                  uint64
}

// end returns the number of the next message that is pushed.
func (s *session) end() uint64 { return s.first + uint64(len(s.ring)) }

// push keeps a message.
func (s *session) push(payload []byte) error {
	needed := headLen + len(payload)
	switch {
	case len(payload) == 0:
		return ErrEmpty
	case s.room < needed:
		return &LengthError{Len: len(payload), Max: s.room - headLen}
	case s.blockMax != 0 && uint64(s.blockMax) < uint64(len(payload)):
		return &LengthError{Len: len(payload), Max: int(s.blockMax), ByHost: true}
	}
	for s.room < s.used+needed {
		if !s.dropOldest {
			s.wantsEnd = true // Else the host need not acknowledge before its next heartbeat.
			return ErrFull
		}
		s.drop()
	}
	s.ring = append(s.ring, append([]byte(nil), payload...))
	s.used += needed
	return nil
}

// drop gives up the oldest message.
func (s *session) drop() {
	s.remove()
	if s.lost < math.MaxUint32 {
		s.lost++
	}
	s.dropped++
	if s.isConnected && s.next < s.first {
		s.next = s.first
		s.wantsCont = s.isWelcome
	}
}

// remove removes the oldest message, and returns its length.
func (s *session) remove() int {
	length := len(s.ring[0])
	s.ring[0] = nil
	s.ring = s.ring[1:]
	s.used -= headLen + length
	s.first++
	return length
}

// connected begins a connection. It appends the bytes to write: HELLO.
func (s *session) connected(out []byte, uptime uint64) []byte {
	s.isConnected = true
	s.isWelcome, s.inSeries, s.wantsCont, s.wantsEnd = false, false, false, false
	s.next, s.sent, s.helloEnd = s.first, s.first, s.end()
	s.inbox, s.skip = nil, 0
	flags := byte(0)
	if s.wantTime {
		flags = flagTime
	}
	hello := append([]byte(magic), 1, flags, byte(len(s.device)), s.heartbeat)
	hello = binary.BigEndian.AppendUint32(hello, uint32(s.room))
	hello = binary.BigEndian.AppendUint64(hello, s.id)
	hello = binary.BigEndian.AppendUint64(hello, s.first)
	hello = binary.BigEndian.AppendUint32(hello, uint32(len(s.ring)))
	hello = binary.BigEndian.AppendUint32(hello, s.lost)
	hello = binary.BigEndian.AppendUint64(hello, uptime)
	return AppendBlock(out, append(hello, s.device...))
}

// closed ends the connection: the messages stay in the ring.
func (s *session) closed() { s.isConnected, s.isWelcome = false, false }

// take appends the bytes to write now, which must be written wholly; nothing if there are none.
func (s *session) take(out []byte, uptime uint64) []byte {
	switch {
	case !s.isWelcome:
	case s.wantsCont && s.inSeries:
		s.inSeries = false
		return AppendEnd(out)
	case s.wantsCont || !s.inSeries && s.next < s.end():
		s.wantsCont, s.inSeries = false, true
		s.sent = max(s.sent, s.next)
		cont := binary.BigEndian.AppendUint64(nil, typeCont<<56|s.next)
		cont = binary.BigEndian.AppendUint64(cont, s.id)
		return AppendBlock(out, binary.BigEndian.AppendUint64(cont, uptime))
	case s.next < s.end():
		payload := s.ring[s.next-s.first]
		s.next++
		s.sent = max(s.sent, s.next)
		return AppendBlock(out, payload)
	case s.wantsEnd && s.inSeries:
		s.inSeries, s.wantsEnd = false, false
		return AppendEnd(out)
	}
	return out
}

// received handles bytes from the host. After an error, close the connection.
func (s *session) received(data []byte) error {
	s.inbox = append(s.inbox, data...)
	for {
		skipped := s.skip
		if skipped > uint64(len(s.inbox)) {
			skipped = uint64(len(s.inbox))
		}
		s.inbox = s.inbox[skipped:]
		s.skip -= skipped
		if s.skip > 0 || len(s.inbox) < headLen {
			return nil
		}
		length := binary.BigEndian.Uint32(s.inbox)
		if length > frameMax {
			s.skip = headLen + uint64(length)
			continue
		}
		end := headLen + int(length)
		if len(s.inbox) < end {
			return nil
		}
		if length > 0 {
			if err := s.frame(s.inbox[headLen:end]); err != nil {
				return err
			}
		}
		s.inbox = s.inbox[end:]
	}
}

func (s *session) frame(frame []byte) error {
	if len(frame) < 8 {
		return broken("a frame of %d bytes", len(frame))
	}
	kind, number := frame[0], binary.BigEndian.Uint64(frame)&(1<<56-1)
	switch {
	case kind == typeClosing && len(frame) < 16:
		return broken("a CLOSING of %d bytes", len(frame))
	case kind == typeClosing:
		retry := time.Duration(binary.BigEndian.Uint16(frame[10:])) * time.Second
		return &ClosingError{Code: frame[8], Retry: retry, Text: string(frame[16:])}
	case kind == typeWelcome:
		return s.welcome(frame, number)
	case kind == typeAck && !s.isWelcome:
		return broken("an ACK before the WELCOME")
	case kind == typeAck:
		if len(frame) >= 16 {
			s.hostTime = binary.BigEndian.Uint64(frame[8:])
		}
		return s.acknowledged(number)
	case kind >= 128:
		return broken("a frame of type %d, which must be understood", kind)
	}
	return nil
}

func (s *session) welcome(frame []byte, acked uint64) error {
	if s.isWelcome {
		return broken("a second WELCOME")
	}
	if len(frame) < frameMax {
		return broken("a WELCOME of %d bytes", len(frame))
	}
	resume, id := binary.BigEndian.Uint64(frame[8:]), binary.BigEndian.Uint64(frame[16:])
	if id == 0 || resume < acked || s.helloEnd < resume {
		return broken("WELCOME: session %x, acked %d, resume %d, sent up to %d", id, acked, resume, s.helloEnd)
	}
	check := binary.BigEndian.Uint32(frame[40:])
	if check != 0 && s.first < resume && crc32.ChecksumIEEE(s.ring[resume-1-s.first]) != check {
		s.id = 0
		return broken("message %d of session %x is not that of this ring: a new session follows", resume-1, id)
	}
	s.id = id
	s.isWelcome, s.wantsCont = true, true
	s.hostTime = binary.BigEndian.Uint64(frame[24:])
	s.blockMax = binary.BigEndian.Uint32(frame[32:])
	s.heartbeatOfHost = time.Duration(binary.BigEndian.Uint16(frame[36:])) * time.Second
	s.next = max(resume, s.first)
	s.sent = s.next
	return s.acknowledged(acked)
}

func (s *session) acknowledged(acked uint64) error {
	if s.sent < acked {
		return broken("%d is acknowledged, but only messages below %d were sent", acked, s.sent)
	}
	for len(s.ring) > 0 && s.first < acked {
		if uint64(s.remove()) > uint64(s.blockMax) {
			s.refused++
		}
	}
	s.acked = max(s.acked, acked)
	if acked >= s.first {
		s.lost = 0
	} else if s.first-acked < uint64(s.lost) {
		s.lost = uint32(s.first - acked)
	}
	return nil
}

func broken(format string, values ...any) error {
	return &BrokenHostError{fmt.Sprintf(format, values...)}
}

// max is a function of the language since Go 1.21.
func max(a, b uint64) uint64 {
	if a < b {
		return b
	}
	return a
}
