package login

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
)

// recordedCPanel is a host whose uapi answers as cPanel's documentation has it. Its file "called"
// has what it was called with, a line each; what it has suspended is suspended in its list.
func recordedCPanel(t *testing.T) (h Host, called func() []string) {
	t.Helper()
	root := t.TempDir()
	recorded, err := filepath.Abs("testdata/cpanel")
	if err != nil {
		t.Fatal(err)
	}
	script(t, filepath.Join(root, uapiPath), `
echo "$*" >>`+root+`/called
case $4 in
list_pops)
	sed "$(cat `+root+`/edits 2>/dev/null)" `+recorded+`/list_pops.json ;;
suspend_login)
	case $5 in
	*stranger*) cat `+recorded+`/refused.json; exit 0 ;;
	*lie*) ;;
	*) printf %s 's/\(hacked@example.com","suspended_incoming":0,"suspended_login":\)0/\11/' >`+root+`/edits ;;
	esac
	cat `+recorded+`/suspend_login.json ;;
hold_outgoing)
	echo "${5#email=}" >>`+root+`/etc/outgoing_mail_hold_users
	cat `+recorded+`/suspend_login.json ;;
release_outgoing)
	sed -i "/^${5#email=}\$/d" `+root+`/etc/outgoing_mail_hold_users
	cat `+recorded+`/suspend_login.json ;;
unsuspend_login)
	rm -f `+root+`/edits
	cat `+recorded+`/unsuspend_login.json ;;
*)
	cat `+recorded+`/$4.json ;;
esac`)
	return Host{Root: root}, func() []string {
		text, _ := os.ReadFile(root + "/called")
		return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
}

// script writes a program for sh.
func script(t *testing.T, path, text string) {
	t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
}

func adapterOf(t *testing.T, h Host) Adapter {
	t.Helper()
	a, err := h.Adapter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantState(t *testing.T, a Adapter, l Login, want State) {
	t.Helper()
	if got, err := a.State(t.Context(), l); err != nil || got != want {
		t.Errorf("%s is %q, %v, want %s", l.Name, got, err, want)
	}
}

func TestCPanelSuspendsTheLoginAndNothingElse(t *testing.T) {
	hosttest.NotShort(t)
	h, called := recordedCPanel(t)
	a, l := adapterOf(t, h), Login{"hacked@example.com", "bob"}
	wantState(t, a, l, Active)
	if err := a.Suspend(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	wantState(t, a, l, Suspended)
	if err := a.Resume(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	wantState(t, a, l, Active)
	if err := a.SetPassword(t.Context(), l, "a b+c'%"); err != nil {
		t.Fatal(err)
	}
	list := "--output=json --user=bob Email list_pops"
	want := []string{
		list,
		"--output=json --user=bob Email suspend_login email=hacked@example.com", list, list,
		"--output=json --user=bob Email unsuspend_login email=hacked@example.com", list, list,
		"--output=json --user=bob Email passwd_pop email=hacked@example.com password=a%20b%2Bc%27%25",
	}
	if diff := cmp.Diff(want, called()); diff != "" {
		t.Errorf("uapi was called (-want +got):\n%s", diff)
	}
}

func TestCPanelTakesNamesAsTheyAre(t *testing.T) {
	hosttest.NotShort(t)
	h, called := recordedCPanel(t)
	a := adapterOf(t, h)
	wantState(t, a, Login{"O'Neil+x y@example.com", "bob"}, Active)
	wantState(t, a, Login{"bob", "bob"}, Active) // as the list has it: the main account
	for name, typed := range map[string]string{
		"o'neil+x y@example.com":     "o%27neil%2Bx%20y@example.com",
		"a\nb\"`$(reboot)@x.example": "a%0Ab%22%60%24%28reboot%29@x.example",
		"b\u00fc@example.com":        "b%C3%BC@example.com",
		"--help":                     "--help",
	} {
		a.Suspend(t.Context(), Login{name, "bob"}) // an error: it is not suspended afterwards
		all := called()
		if got, want := all[len(all)-2], "--output=json --user=bob Email suspend_login email="+typed; got != want {
			t.Errorf("%q: uapi was called %s, want %s", name, got, want)
		}
	}
}

func TestCPanelSaysDoneAndItIsNot(t *testing.T) {
	hosttest.NotShort(t)
	h, _ := recordedCPanel(t)
	a := adapterOf(t, h)
	for name, text := range map[string]string{
		"lie@example.com":      "cpanel says that it is done, but lie@example.com is absent",
		"stranger@example.com": "refused: You do not own the domain",
	} {
		if err := a.Suspend(t.Context(), Login{name, "bob"}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", name, err, text)
		}
	}
	for _, account := range []string{"", "--help", "bob;id", "../bob"} {
		if _, err := a.State(t.Context(), Login{"hacked@example.com", account}); err == nil || !strings.Contains(err.Error(), "/etc/userdomains") {
			t.Errorf("account %q: %v", account, err)
		}
	}
	for printed, text := range map[string]string{
		"echo internal error; exit 2":                                            "no JSON",
		`echo '{"result":{"status":1,"data":{}}}'`:                               "its data",
		`echo '{"result":{"status":1,"data":[{"email":"hacked@example.com"}]}}'`: "neither 0 nor 1",
		`echo '{"status":1}'`:                                                    "refused",
		"kill -9 $$":                                                             "signal: killed",
	} {
		script(t, filepath.Join(h.Root, uapiPath), printed)
		if _, err := a.State(t.Context(), Login{"hacked@example.com", "bob"}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("uapi that does %q: %v, want %q", printed, err, text)
		}
	}
}

func TestWhichAdapter(t *testing.T) {
	hosttest.NotShort(t)
	h, _ := recordedCPanel(t)
	if a := adapterOf(t, h); a.Name() != "cpanel" {
		t.Errorf("it is %s", a.Name())
	}
	script(t, h.path(adapterDir, "plesk"), "exit 3")
	script(t, h.path(adapterDir, ".hidden"), "exit 3")
	_, err := h.Adapter(t.Context())
	if err == nil || !strings.Contains(err.Error(), `cpanel and plesk: choose with adapter = "cpanel"`) {
		t.Errorf("of two: %v", err)
	}
	for chosen, want := range map[string]string{"plesk": "plesk", "cpanel": "cpanel", "dovecot": "no doveadm", "none": `is "none"`, "other": "no such file"} {
		a, err := Host{Root: h.Root, Chosen: chosen}.Adapter(context.Background())
		if err == nil && a.Name() != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", chosen, a, err)
		}
	}
	if _, err := (Host{Root: t.TempDir()}).Adapter(t.Context()); !errors.Is(err, ErrNone) {
		t.Errorf("of none: %v", err)
	}
}
