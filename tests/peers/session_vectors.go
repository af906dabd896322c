// Command session_vectors encodes and decodes the vectors of docs/sessions.md with docs/send-from/go/blocks_session.go, and prints the
// results. The test compiles both as one package.
//
//	session_vectors WELCOME ACK ACK_WITH_TIME CLOSING, in hexadecimal
package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
)

// begin returns a session with messages, and its HELLO.
func begin(room int, messages ...string) (*session, []byte) {
	s := &session{device: "boiler-01234", room: room, dropOldest: true, wantTime: true}
	for _, message := range messages {
		must(s.push([]byte(message)))
	}
	return s, s.connected(nil, 1_500_000)
}

func take(s *session) []byte { return s.take(nil, 2_500_000) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	var frames [4][]byte
	for i := range frames {
		frame, err := hex.DecodeString(os.Args[1+i])
		must(err)
		frames[i] = frame
	}
	welcome, ack, ackWithTime, closing := frames[0], frames[1], frames[2], frames[3]

	s, hello := begin(4096, "temp=21.5")
	fmt.Printf("HELLO %x\n", hello)
	must(s.received(welcome))
	fmt.Printf("WELCOME 0 session=%x time=%d block_max=%d silence_ms=%d next=%d held=%d\n",
		s.id, s.hostTime, s.blockMax, 3*s.heartbeatOfHost.Milliseconds(), s.next, len(s.ring))

	var brokenHost *BrokenHostError
	s, _ = begin(4096, "temp=21.6")
	if errors.As(s.received(welcome), &brokenHost) {
		fmt.Printf("OTHER 2 session=%x held=%d\n", s.id, len(s.ring))
	}

	s, _ = begin(4096, "a", "b", "c")
	changed := append([]byte(nil), welcome...)
	copy(changed[4+8:4+16], make([]byte, 8))
	copy(changed[4+40:4+44], make([]byte, 4))
	must(s.received(changed))
	fmt.Printf("CONT %x\n", take(s))
	fmt.Printf("MESSAGES %x%x%x\n", take(s), take(s), take(s))
	must(s.received(ack))
	fmt.Printf("ACK 0 acked=%d held=%d\n", s.acked, len(s.ring))
	must(s.received(ackWithTime))
	fmt.Printf("ACK 0 time=%d\n", s.hostTime)
	var closed *ClosingError
	if errors.As(s.received(closing), &closed) {
		fmt.Printf("CLOSING 1 code=%d retry_ms=%d text=%s\n", closed.Code, closed.Retry.Milliseconds(), closed.Text)
	}

	// A ring of 4 messages is full after two of them were taken.
	s, _ = begin(20, "a", "b", "c")
	must(s.received(changed))
	take(s)
	take(s)
	take(s)
	fmt.Print("PUSHED")
	for _, payload := range []string{"d", "e", "f", "g"} {
		pushed := 0
		if s.push([]byte(payload)) == nil {
			pushed = 1
		}
		fmt.Print(" ", pushed)
	}
	fmt.Printf(" first=%d lost=%d\n", s.first, s.lost)
	var gap []byte
	for part := take(s); len(part) > 0; part = take(s) {
		gap = append(gap, part...)
	}
	fmt.Printf("GAP %x\n", gap)
	must(s.received(ack))
	fmt.Printf("ACK 0 first=%d lost=%d\n", s.first, s.lost)
}
