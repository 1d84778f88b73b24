package eximconfig_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/operator"
	"sluice/sidecar/typed"
)

// buildSluice builds the binary under test as `make build` does, once for all tests.
var buildSluice = sync.OnceValues(func() (string, error) {
	path := filepath.Join(sharedDir(), "sluice")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "sluice/cmd/sluice")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build sluice: %w\n%s", err, out)
	}
	return path, nil
})

// node is the name of the host.
const node = "node.example"

const sluiceConfig = `
[listen]
policy = ["unix:` + policySocket + `"%s]
admin = "unix:/run/sluice/admin.sock"
[store]
node = "` + node + `"
dir = "/run/sluice-store"
[locks]
dir = "` + lockDir + `"
[exim]
binary = "/usr/sbin/exim4"
local_domains = ["here.example", "also.example"]
`

// sluice is a command line of the binary under test on the host.
func (h *host) sluice(t testing.TB, args ...string) []string {
	t.Helper()
	path, err := buildSluice()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{path, "--config", "/run/sluice.toml"}, args...)
}

// startSluice starts the sidecar and waits until it answers. limits is the
// rest of its configuration.
func (h *host) startSluice(t testing.TB, limits string) *process {
	t.Helper()
	tcp := ""
	if h.way == "tcp" {
		tcp = fmt.Sprintf(`, "tcp:127.0.0.1:%d"`, h.tcpPort)
	}
	config := strings.Replace(fmt.Sprintf(sluiceConfig, tcp), "[store]\n", "[store]\n"+h.store, 1)
	if h.log != "" {
		config = strings.Replace(config, "[exim]\n", fmt.Sprintf("[exim]\nmainlog = %q\n", cmp.Or(h.reads, h.log)), 1)
	}
	if h.name != "" {
		config = strings.Replace(config, node, h.name, 1)
	}
	h.write(t, "/run/sluice.toml", nobodyIsTold(limits)+config+limits)
	p := h.start(t, h.sluice(t, "serve")...)
	hosttest.Eventually(t, "sluice listens", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("sluice ended:\n%s", p.stderr.String())
		default:
		}
		for _, socket := range []string{policySocket, "/run/sluice/admin.sock"} { // one after the other
			c, err := net.Dial("unix", h.path(socket))
			if err != nil {
				return false
			}
			c.Close()
		}
		return true
	})
	return p
}

// nobodyIsTold keeps root's mailbox empty, unless a test says who is told of incidents.
func nobodyIsTold(limits string) string {
	if strings.Contains(limits, "[alert") {
		return ""
	}
	return "alert.to = []"
}

// ask asks the sidecar what its own commands would, without the start of a
// process for each question.
func (h *host) ask(t testing.TB, question func(context.Context, *admin.Client) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hosttest.Patience())
	defer cancel()
	return question(ctx, admin.NewClient(h.path("/run/sluice/admin.sock")))
}

// all is what sluice shows of everything.
func (h *host) all(t testing.TB) (s operator.Status) {
	t.Helper()
	err := h.ask(t, func(ctx context.Context, c *admin.Client) (err error) { s, err = c.Status(ctx, ""); return err })
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	return s
}

// status is what sluice shows of a domain.
func (h *host) status(t testing.TB, domain string) operator.DomainStatus {
	t.Helper()
	var s operator.Status
	err := h.ask(t, func(ctx context.Context, c *admin.Client) (err error) { s, err = c.Status(ctx, domain); return err })
	i := slices.IndexFunc(s.Domains, func(d operator.DomainStatus) bool { return d.Domain == domain })
	if errors.Is(err, typed.ErrNotFound) || err == nil && i < 0 && len(s.Scopes) > 0 { // what it redirects
		return operator.DomainStatus{Domain: domain}
	}
	if err != nil || i < 0 {
		t.Fatalf("status of %s: %v, %+v", domain, err, s)
	}
	return s.Domains[i]
}

// counts is what is counted of a subject, a domain or a special one.
func (h *host) counts(t testing.TB, subject string) operator.Counts {
	t.Helper()
	if sidecar.IsDomain(subject) {
		return h.status(t, subject).Counts
	}
	for _, s := range h.all(t).Scopes {
		if s.Scope == subject {
			return s.Counts
		}
	}
	return operator.Counts{}
}

// forwards is the status of what aliases and lists of a domain redirect.
func (h *host) forwards(t testing.TB, domain string) operator.ScopeStatus {
	t.Helper()
	scope := sidecar.ForwardPrefix + domain
	var s operator.Status
	err := h.ask(t, func(ctx context.Context, c *admin.Client) (err error) { s, err = c.Status(ctx, scope); return err })
	if errors.Is(err, typed.ErrNotFound) {
		return operator.ScopeStatus{Scope: scope, Windows: []operator.Window{{}}}
	}
	if err != nil || len(s.Scopes) != 1 {
		t.Fatalf("status of %s: %v, %+v", scope, err, s)
	}
	return s.Scopes[0]
}

func (h *host) reset(t testing.TB, domain string) error {
	t.Helper()
	return h.ask(t, func(ctx context.Context, c *admin.Client) error { return c.Reset(ctx, domain) })
}

// hourlyText is how the limit of an hour refuses.
func hourlyText(subject string, attempted, limit int, what string) string {
	return fmt.Sprintf("%s has exceeded the max emails per hour (%d/%d (%d%%)) allowed.  Message %s",
		sidecar.TitleOf(subject), attempted, limit, attempted*100/limit, what)
}

// forwardText is hourlyText about what a domain redirects.
func forwardText(domain string, attempted, limit int) string {
	return strings.Replace(hourlyText(domain, attempted, limit, laterText), "Domain", "Forwarder", 1)
}

const (
	laterText = "will be reattempted later"
	neverText = "discarded."
)

// wantRefused is want for a refusal of Sluice's; what explains it further, in
// brackets, is not looked at.
func wantRefused(t testing.TB, got hosttest.Reply, code int, text string) {
	t.Helper()
	enhancedCode := map[int]string{450: "4.7.1 ", 550: "5.7.1 "}[code]
	short, explanation, _ := strings.Cut(got.Text, " [")
	if got.Code != code || short != enhancedCode+text || !strings.HasSuffix(explanation, "]") {
		t.Fatalf("Exim said\n%v\nbut should have said\n%d %s%s [...]", got, code, enhancedCode, text)
	}
}
