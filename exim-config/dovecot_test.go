package eximconfig_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// dovecotConf is Dovecot's configuration on a host: everybody in the file users has a mailbox, and
// Exim asks it who may log in. Nobody waits longer for having failed before.
const dovecotConf = `
!include_try /etc/dovecot/conf.d/05-sluice.conf
protocols = imap
ssl = no
disable_plaintext_auth = no
auth_cache_size = 1M
auth_username_chars =
auth_failure_delay = 0
log_path = /run/dovecot.log
mail_location = maildir:/run/mailboxes/%%u
first_valid_uid = 8
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%%u /etc/dovecot/users
}
userdb {
  driver = static
  args = uid=mail gid=mail home=/run/mailboxes/%%u
}
service auth {
  unix_listener auth-exim {
    mode = 0600
    user = Debian-exim
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service imap-login {
  inet_listener imap {
    address = 127.0.0.1
    port = %d
  }
  inet_listener imaps {
    port = 0
  }
}
`

// dovecotAuth has Exim ask Dovecot.
const dovecotAuth = `
site_plain:
  driver = dovecot
  public_name = PLAIN
  server_socket = /run/dovecot/auth-exim
  server_set_id = $auth1
  server_advertise_condition = yes
`

// A dovecot is a host's Dovecot.
type dovecot struct {
	*host
	port int
}

// startDovecot starts Dovecot, in which all of users have the password "secret", and has Exim ask
// it. That it denies logins is not in its configuration yet.
func (h *host) startDovecot(t testing.TB, users ...string) dovecot {
	t.Helper()
	hosttest.Program(t, "dovecot")
	d := dovecot{h, hosttest.FreePort(t)}
	h.write(t, "/etc/dovecot/dovecot.conf", fmt.Sprintf(dovecotConf, d.port))
	escaped := strings.NewReplacer(`"`, `\"`, `'`, `\'`).Replace(strings.Join(users, ":secret\n")) // as Dovecot looks for them
	h.write(t, "/etc/dovecot/users", escaped+":secret\n")
	h.write(t, "/etc/exim4/conf.d/auth/10_site", dovecotAuth)
	h.run(t, "update-exim4.conf")
	h.run(t, "install", "-d", "-o", "mail", "-g", "mail", "/run/mailboxes")
	h.start(t, "dovecot", "-F")
	hosttest.Eventually(t, "Dovecot answers", func() bool {
		c, err := net.Dial("tcp", d.address())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return d
}

func (d dovecot) address() string { return fmt.Sprintf("127.0.0.1:%d", d.port) }

// denies puts the lines that doctor shows into Dovecot's configuration, as it says.
func (d dovecot) denies(t testing.TB) {
	t.Helper()
	found, _ := d.doctor(t)
	for _, f := range found {
		if f.Check != "logins" {
			continue
		}
		first, rest, _ := strings.Cut(f.Do, "passdb {")
		command := strings.Fields(first[strings.Index(first, "  install"):])
		d.write(t, "/etc/sluice/sluice.toml", "")
		d.run(t, command[:7]...)
		d.write(t, "/etc/dovecot/conf.d/05-sluice.conf", "passdb {"+rest+"\n")
		d.run(t, "doveadm", "reload")
		return
	}
	t.Fatalf("doctor does not show the lines: %+v", found)
}

// A mailClient is a client of IMAP that is connected.
type mailClient struct {
	conn net.Conn
	r    *bufio.Reader
}

// imap logs in to a mailbox by IMAP, and reports whether that was let.
func (d dovecot) imap(t testing.TB, user string) (c mailClient, in bool) {
	t.Helper()
	conn, err := net.Dial("tcp", d.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * hosttest.Patience()))
	c = mailClient{conn, bufio.NewReader(conn)}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(user)
	fmt.Fprintf(conn, "a LOGIN \"%s\" \"secret\"\r\n", quoted)
	for {
		line, err := c.r.ReadString('\n')
		switch {
		case err != nil:
			t.Fatalf("IMAP as %s: %v", user, err)
		case strings.HasPrefix(line, "a OK"):
			return c, true
		case strings.HasPrefix(line, "a "):
			return c, false
		}
	}
}

// ended waits until the server has ended the session.
func (c mailClient) ended(t testing.TB) {
	t.Helper()
	for {
		if _, err := c.r.ReadString('\n'); err != nil {
			if strings.Contains(err.Error(), "timeout") {
				t.Error("the session goes on")
			}
			return
		}
	}
}

// auth is what Exim replies to a login by SMTP.
func (d dovecot) auth(t testing.TB, user string) hosttest.Reply {
	t.Helper()
	c := d.dial(t)
	r := c.Cmd("AUTH PLAIN %s", plain(user))
	c.Cmd("QUIT")
	return r
}

// plain is the argument of AUTH PLAIN.
func plain(user string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00secret"))
}

// want fails the test unless a user can log in, by SMTP and by IMAP, or unless he cannot.
func (d dovecot) want(t testing.TB, user string, in bool) {
	t.Helper()
	code := map[bool]int{true: 235, false: 535}[in]
	if r := d.auth(t, user); r.Code != code {
		t.Errorf("%s by SMTP: %v, want %d", user, r, code)
	}
	if _, is := d.imap(t, user); is != in {
		t.Errorf("%s by IMAP: let in is %v, want %v", user, is, in)
	}
}
