// Command send sends each line of its standard input over an acknowledged session of blocks. The exit code is 0 only if the host
// has acknowledged every line.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"

	"example.org/blocks"
)

const usage = `usage: send [--timeout S] [--room BYTES] [--drop-oldest] [--backoff-max S]
         [--tls-ca FILE [--tls-cert FILE --tls-key FILE] [--tls-name NAME] [--tls-max 1.2]] HOST:PORT DEVICE < lines
       send --frame blocks|cobs-crc32 < lines > frames
`

// arguments of the command line.
type arguments struct {
	options blocks.Options
	timeout *time.Duration // Of the wait after the end of the input; nil: none.
	frame   string
}

func main() {
	args, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
	case err != nil:
		fail(2, err)
	case args.frame != "":
		if err := writeFrames(os.Stdin, os.Stdout, args.frame); err != nil {
			fail(1, err)
		}
	default:
		sender, err := blocks.NewSender(args.options)
		if err != nil {
			fail(2, err)
		}
		if err := sendLines(os.Stdin, sender, args.timeout); err != nil {
			fail(1, err)
		}
	}
}

func report(err error) { fmt.Fprintf(os.Stderr, "blocks_session: %v\n", err) }

func fail(code int, err error) {
	report(err)
	os.Exit(code)
}

// sendLines sends each line, and waits until the host has acknowledged it.
func sendLines(input io.Reader, sender *blocks.Sender, timeout *time.Duration) error {
	refused := uint64(0)
	inputErr := eachLine(input, func(line []byte) error {
		if err := sender.Push(context.Background(), line); err != nil {
			refused++
			report(err)
		}
		return nil
	})
	ctx := context.Background()
	if timeout != nil {
		limited, cancel := context.WithTimeout(ctx, *timeout)
		defer cancel()
		ctx = limited
	}
	var loss *blocks.LossError
	err := sender.Close(ctx)
	if errors.As(err, &loss) {
		loss.TooLong += refused
	} else if refused > 0 {
		err = &blocks.LossError{TooLong: refused}
	}
	if inputErr != nil {
		report(inputErr)
	}
	if err == nil {
		return inputErr
	}
	return err
}

// writeFrames frames each line, without a session.
func writeFrames(input io.Reader, output io.Writer, framing string) error {
	out := bufio.NewWriter(output)
	appendFrame := blocks.AppendCobsCRC32
	if framing == "blocks" {
		appendFrame = blocks.AppendBlock
	}
	var frame []byte
	err := eachLine(input, func(line []byte) error {
		frame = appendFrame(frame[:0], line)
		if _, err := out.Write(frame); err != nil {
			return err
		}
		return out.Flush() // A message is not held back until others follow.
	})
	if err == nil && framing == "blocks" {
		_, err = out.Write(blocks.AppendEnd(nil))
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// eachLine calls send with each line that is not empty, without its end.
func eachLine(input io.Reader, send func([]byte) error) error {
	reader := bufio.NewReader(input)
	for {
		line, err := reader.ReadBytes('\n')
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) > 0 {
			if err := send(line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func parse(args []string) (*arguments, error) {
	var parsed arguments
	flags := flag.NewFlagSet("send", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	seconds := func(name string, set func(time.Duration)) {
		flags.Func(name, "", func(text string) error {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil || !(value >= 0 && value <= 1e9) {
				return errors.New("not a number of seconds")
			}
			set(time.Duration(math.Round(value * float64(time.Second))))
			return nil
		})
	}
	parsed.options.Report = report
	seconds("timeout", func(it time.Duration) { parsed.timeout = &it })
	seconds("backoff-max", func(it time.Duration) {
		parsed.options.BackoffMax = it + 1 // At least 1 ns, since 0 is the default.
		parsed.options.BackoffLong = 10*it + 1
	})
	flags.IntVar(&parsed.options.Room, "room", 65_536, "")
	flags.BoolVar(&parsed.options.DropOldest, "drop-oldest", false, "")
	ca, cert, key := flags.String("tls-ca", "", ""), flags.String("tls-cert", "", ""), flags.String("tls-key", "", "")
	name, version := flags.String("tls-name", "", ""), flags.String("tls-max", "", "")
	flags.StringVar(&parsed.frame, "frame", "", "")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if parsed.frame != "" {
		if parsed.frame != "blocks" && parsed.frame != "cobs-crc32" || flags.NArg() > 0 {
			return nil, errors.New("--frame is blocks or cobs-crc32, without HOST:PORT and DEVICE")
		}
		return &parsed, nil
	}
	if flags.NArg() != 2 {
		return nil, errors.New("HOST:PORT and DEVICE are required; see --help")
	}
	parsed.options.Address, parsed.options.Device = flags.Arg(0), flags.Arg(1)
	if (*cert != "" || *name != "" || *version != "") && *ca == "" || (*cert == "") != (*key == "") {
		return nil, errors.New("--tls-cert needs --tls-key and --tls-ca; --tls-key needs --tls-cert; --tls-name and --tls-max need --tls-ca")
	}
	if *ca != "" {
		config, err := tlsConfig(*ca, *cert, *key)
		if err != nil {
			return nil, err
		}
		config.ServerName = *name
		if *version == "1.2" {
			config.MaxVersion = tls.VersionTLS12
		} else if *version != "" {
			return nil, fmt.Errorf("--tls-max is 1.2, not %q", *version)
		}
		parsed.options.TLS = config
	}
	return &parsed, nil
}

// tlsConfig accepts hosts of the authority in the file ca, and shows the certificate cert.
func tlsConfig(ca, cert, key string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", ca)
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", cert, key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
