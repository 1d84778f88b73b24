package policytest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"sluice/sidecar/policyd"
)

// A Server listens for questions.
type Server struct {
	Network string // unix or tcp
	Path    string // of the unix socket, or host:port
	Postfix bool   // asked as Postfix asks, for each recipient
}

// A Load is many clients that ask one question after the other. Each is a process of its
// own with one thread, as an Exim is: a client that waits for its answer sleeps, and
// waking it up is part of the cost of an answer.
type Load struct {
	Server                // to ask
	Clients int           // how many ask at the same time
	Fresh   bool          // a connection for each question
	For     time.Duration // how long
	Domains int           // senders' domains, in turn; default 100
	Prefix  string        // 6 characters at the beginning of message ids; with another prefix they are other messages
	Number  int           // of the client, in its own process
}

// A question is one request of a load, with the position of its message id.
type question struct {
	text  []byte
	id    int  // offset of the id, 0 if there is none
	plain bool // the id is not in base64
}

// postfix returns what Postfix asks about one recipient each (SMTPD_POLICY_README).
func (l Load) postfix() (qs []question) {
	for i := range max(l.Domains, 1) {
		text := fmt.Appendf(nil, postfixRequest, i)
		qs = append(qs, question{text, bytes.Index(text, []byte("\ninstance=")) + len("\ninstance="), true})
	}
	return qs
}

const postfixRequest = `request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
helo_name=client.example.net
queue_id=
sender=news@tenant%[1]d.example
recipient=somebody@far.example.net
recipient_count=0
client_address=192.0.2.17
client_name=client.example.net
client_port=4711
reverse_client_name=client.example.net
instance=d0.6b06f2d7.802c
sasl_method=plain
sasl_username=news@tenant%[1]d.example
sasl_sender=
size=0
ccert_subject=
ccert_issuer=
ccert_fingerprint=
encryption_protocol=
encryption_cipher=
encryption_keysize=0

`

// questions returns what Exim asks about messages with one remote recipient: at rcpt,
// which only looks, and at data, which charges a new message each time.
func (l Load) questions() ([]question, error) {
	if l.Postfix {
		return l.postfix(), nil
	}
	var qs []question
	for i := range max(l.Domains, 1) {
		common := []policyd.Field{
			{Name: "sender", Value: fmt.Sprintf("news@tenant%d.example", i)},
			{Name: "auth", Value: fmt.Sprintf("news@tenant%d.example", i)},
			{Name: "client_address", Value: "192.0.2.17"},
		}
		rcpt, err := policyd.AppendRequest(nil, append([]policyd.Field{
			{Name: "stage", Value: "rcpt"},
			{Name: "recipient", Value: "somebody@far.example.net"},
			{Name: "sent", Value: "0"},
		}, common...))
		if err != nil {
			return nil, err
		}
		data, err := policyd.AppendRequest(nil, append([]policyd.Field{
			{Name: "stage", Value: "data"},
			{Name: "id", Value: "1xUzSN-0005dd-0q"},
			{Name: "recipients", Value: "somebody@far.example.net"},
		}, common...))
		if err != nil {
			return nil, err
		}
		qs = append(qs, question{text: rcpt}, question{text: data, id: bytes.Index(data, []byte("\nid=")) + 4})
	}
	return qs, nil
}

// ask is one client: it asks for as long as l.For and returns how many answers it got.
func (l Load) ask(qs []question) (n int, err error) {
	end := time.Now().Add(l.For)
	var nc net.Conn
	defer func() {
		if nc != nil {
			nc.Close()
		}
	}()
	id, answer := []byte("1xUzSN-0005dd-0q"), make([]byte, 4096)
	copy(id, l.Prefix)
	for ; n%4 != 0 || time.Now().Before(end); n++ { // reading the clock takes time, too
		if nc == nil {
			if nc, err = l.dial(end); err != nil {
				return n, err
			}
		}
		q := qs[(n+l.Number)%len(qs)]
		if q.id > 0 {
			putNumber(id[7:13], n)
			putNumber(id[14:16], l.Number)
			if q.plain {
				copy(q.text[q.id:], id)
			} else {
				base64.StdEncoding.Encode(q.text[q.id:], id)
			}
		}
		if err := exchange(nc, q.text, answer); err != nil {
			return n, err
		}
		if l.Fresh {
			nc.Close()
			nc = nil
		}
	}
	return n, nil
}

// dial connects. While the server's backlog is full it tries again, as Postfix does.
func (l Load) dial(end time.Time) (net.Conn, error) {
	for {
		nc, err := net.Dial(l.Network, l.Path)
		if !errors.Is(err, syscall.EAGAIN) || time.Now().After(end) {
			return nc, err
		}
		time.Sleep(time.Millisecond)
	}
}

// exchange asks one question and reads the answer.
func exchange(nc net.Conn, question, answer []byte) error {
	if _, err := nc.Write(question); err != nil {
		return err
	}
	for n := 0; ; {
		m, err := nc.Read(answer[n:])
		if err != nil {
			return fmt.Errorf("no answer: %w", err)
		}
		n += m
		if bytes.HasSuffix(answer[:n], []byte("\n\n")) {
			if !bytes.HasPrefix(answer, []byte("action=")) {
				return fmt.Errorf("answer %q", answer[:n])
			}
			return nil
		}
	}
}

// putNumber overwrites dst with n in base 36.
func putNumber(dst []byte, n int) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[n%36]
		n /= 36
	}
}

// loadVar is the environment variable that has the Load for a client's process.
const loadVar = "SLUICE_POLICY_LOAD"

// Main acts as one client and exits, if Compare started this process for that. The client
// begins when its standard input ends, so that all begin together.
func Main() {
	spec, ok := os.LookupEnv(loadVar)
	if !ok {
		return
	}
	if err := runClient(spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runClient(spec string) error {
	var l Load
	if err := json.Unmarshal([]byte(spec), &l); err != nil {
		return err
	}
	qs, err := l.questions()
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	n, err := l.ask(qs)
	fmt.Println(n)
	return err
}

// run runs all clients and returns the answers per second.
func (l Load) run() (rate float64, err error) {
	clients := make([]client, l.Clients)
	defer func() {
		for i := range clients {
			clients[i].stop()
		}
	}()
	for i := range clients {
		l.Number = i
		if err := clients[i].start(l); err != nil {
			return 0, fmt.Errorf("load on %s: %w", l.Path, err)
		}
	}
	for i := range clients {
		if line, err := clients[i].out.ReadString('\n'); line != "ready\n" {
			return 0, fmt.Errorf("load on %s: a client said %q: %w", l.Path, line, err)
		}
	}
	total := 0
	for i := range clients {
		clients[i].in.Close()
	}
	for i := range clients {
		var n int
		if _, err := fmt.Fscan(clients[i].out, &n); err != nil {
			return 0, fmt.Errorf("load on %s: %w", l.Path, err)
		}
		total += n
	}
	return float64(total) / l.For.Seconds(), nil
}

// A client is the process of one client.
type client struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (c *client) start(l Load) error {
	spec, err := json.Marshal(l)
	if err != nil {
		return err
	}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), loadVar+"="+string(spec), "GOMAXPROCS=1")
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	c.out = bufio.NewReader(out)
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return err
	}
	return c.cmd.Start()
}

func (c *client) stop() {
	if c.cmd != nil && c.cmd.Process != nil {
		c.in.Close()
		c.cmd.Wait()
	}
}

// A Result is how two servers compare under one load.
type Result struct {
	Base, Subject float64 // median answers per second
	Ratio         float64 // median of subject/base over the rounds
}

// Compare puts the load on the unix sockets base and subject in turn, as Rates does. It
// sets l.Server and l.Prefix.
func Compare(l Load, base, subject string, rounds int) (Result, error) {
	rates, err := Rates(l, []Server{{Network: "unix", Path: base}, {Network: "unix", Path: subject}}, rounds)
	if err != nil {
		return Result{}, err
	}
	ratios := make([]float64, rounds)
	for i := range ratios {
		ratios[i] = rates[1][i] / rates[0][i]
	}
	return Result{Median(rates[0]), Median(rates[1]), Median(ratios)}, nil
}

// Rates puts the load on all servers in turn, in every other round in reverse order. Those
// of one round are measured right after each other, so that whatever else the machine does
// affects all. It returns the answers per second, by server and round.
func Rates(l Load, servers []Server, rounds int) ([][]float64, error) {
	rates := make([][]float64, len(servers))
	for round := -1; round < rounds; round++ { // the first warms up and does not count
		for i := range servers {
			if round%2 != 0 {
				i = len(servers) - 1 - i
			}
			l.Server = servers[i]
			l.Prefix = fmt.Sprintf("%06x", time.Now().UnixMilli()&0xffffff)
			rate, err := l.run()
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				rates[i] = append(rates[i], rate)
			}
		}
	}
	return rates, nil
}

// Median returns the median of v, and leaves v as it is.
func Median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
