package delivery

import (
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/logline"
)

// Exim's own words are those of deliver.c, routers/dnslookup.c and transports/smtp.c of 4.87 to 4.99.
func TestCauses(t *testing.T) {
	const after = "SMTP error from remote mail server after RCPT TO:<a@far.example>: "
	for cause, texts := range map[sidecar.Cause][]string{
		sidecar.NoSuchUser: {
			"Domain far.example does not accept mail (nullMX)", // Postfix
			"host mx.far.example[192.0.2.1] said: 550 <a@far.example>: no such user (in reply to RCPT TO command)",
			"Unrouteable address", "an MX or SRV record indicated no SMTP service", `mail domain "a..b" is syntactically invalid`,
			after + "550 Unrouteable address", after + "550 unroutable address", after + "550 #5.1.1 bad address", after + "550 sorry (#5.1.1)",
			after + "550-5.1.1 The email account that you tried to reach\\n550-5.1.1 does not", after + "556 5.1.10 no mail", after + "550 5.1.6 moved",
			after + "550 5.1.2 no such host", after + "550 <a@far.example>: Recipient address rejected: Domain not found", after + "550 Recipient not found",
			after + "554 delivery error: dd This user doesn't have a far.example account", after + "550 unknown local part a", after + "550 no such address here",
			after + "550 the mailbox doesn't exist", after + "550 no such user: retry timeout exceeded",
		},
		sidecar.DNS: {
			"unable to look up host mx.far.example: Try again", "Host or domain name not found. Name service error for name=far.example type=MX: Host not found, try again",
			"all relevant MX records point to non-existent hosts", "all relevant MX records point to non-existent hosts or (invalidly) to IP addresses",
			"(-1): host lookup did not complete", "(-36): host lookup for mx.example did not complete (DNS timeout?)", "(-1): host lookup done insecurely",
			"(-36): failed to lookup IP address for mx.example", "(-36): lookup of IP address for mx.example was insecure", "(-37): DANE error: tlsa lookup DEFER",
			"(-54): all host address lookups for 'far.example' failed permanently", "(-54): all host address lookups failed temporarily",
		},
		sidecar.Unreachable: {
			"(111): Connection refused", "(113): No route to host", "(101): Network is unreachable", "(104): Connection reset by peer",
			"(110): Connection timed out H=mx [192.0.2.1]: SMTP timeout after initial connection",
			"(-18) H=mx [192.0.2.1]: Remote host closed connection in response to EHLO 550", "(-37) H=mx [192.0.2.1]: TLS session: (gnutls_handshake): rejected",
			"(-38) H=mx [192.0.2.1]: a TLS session is required, but the server did not offer TLS support",
		},
		sidecar.OtherCause: {
			"message size 9 exceeds size limit 8 of server mx.far.example[192.0.2.1]", "mail for far.example loops back to myself",
			"message has lines too long for transport", "message is too big (transport limit = 10M)", "utf8 support required but not offered for forwarding",
			`Too many "Received" headers - suspected mail loop`, "(-1): smtp transport process returned non-zero status 0x000b: terminated by signal 11",
		},
		sidecar.RemoteReject: {
			"host mx.far.example[192.0.2.1] said: 550 (in reply to RCPT TO command)",
			after + "550", after + "550 ", after + "550-", after + "550: retry timeout exceeded", after + "552 5.2.2 mailbox full", after + "550 5.7.1 Access denied",
			"PRDR error after DATA: 550 5.2.2 quota",
		},
		sidecar.RemoteDefer: {
			after + "451", after + "451: retry timeout exceeded", after + "421 4.7.0 [TSS04] Messages temporarily deferred", after + "450 4.1.1 unknown user",
			"SMTP error from remote mail server after pipelined MAIL FROM:<greylist@a.example> SIZE=9: 450 4.1.8 no",
		},
		sidecar.Greylist:   {after + "451 4.7.1 Greylisting in action", after + "450 <a@far.example>: Recipient address rejected: Greylisted", after + "451 grey-listed"},
		sidecar.CalledSpam: {after + "554 5.7.1 Client host [192.0.2.9] blocked using zen.spamhaus.org", after + "450 4.7.1 poor reputation"},
	} {
		for _, text := range texts {
			e := logline.Entry{Attempt: logline.Attempt{Recipient: "a@far.example", Text: text}}
			if got := causeOf(&e); got != cause {
				t.Errorf("%s: %s, want %s", text, got, cause)
			}
		}
	}
}

// A server repeats addresses, which the sender chose: no word in them excuses him, or accuses him.
func TestAnAddressIsNoAnswer(t *testing.T) {
	for answer, want := range map[string]sidecar.Cause{
		"450 4.2.1 <Greylist@spam.example>: mailbox busy":                 sidecar.RemoteDefer,
		"450 4.2.1 <greylist>: mailbox busy":                              sidecar.RemoteDefer,
		"450 4.2.1 greylist@spam.example is busy":                         sidecar.RemoteDefer,
		"450 4.1.8 <greylist@a.example>: sender address rejected":         sidecar.RemoteDefer,
		`450 4.2.1 <"grey list"@spam.example>: mailbox busy`:              sidecar.RemoteDefer,
		"552 5.2.2 mailbox of greylist@spam.example is full":              sidecar.RemoteReject,
		"552 5.2.2 mailbox is full: greylist@spam.example":                sidecar.RemoteReject,
		"450 4.2.1 <greylist@spam.example>: greylisted, come back":        sidecar.Greylist,
		"550 5.1.1 <greylist@spam.example>: no such user (@spam.example)": sidecar.NoSuchUser,
	} {
		for _, before := range []string{"SMTP error from remote mail server after RCPT TO:<greylist@spam.example>: ", "SMTP error from remote mail server after end of data: "} {
			e := logline.Entry{Attempt: logline.Attempt{Recipient: "greylist@spam.example", Original: `"Grey list"@spam.example`, Text: before + answer}}
			if got := causeOf(&e); got != want {
				t.Errorf("%s: %s, want %s", answer, got, want)
			}
		}
	}
	// A name without a domain is a word like others.
	e := logline.Entry{Attempt: logline.Attempt{Recipient: "r@far.example", Original: "user", Text: "SMTP error from remote mail server after RCPT TO:<r@far.example>: 550 user unknown"}}
	if got := causeOf(&e); got != sidecar.NoSuchUser {
		t.Errorf("mail that a user called user has sent on: %s", got)
	}
}

func TestAttempted(t *testing.T) {
	for text, want := range map[string]bool{
		"(-53): retry time not reached for any host for 'far.example'":                                               false,
		"(-52): reusing SMTP connection skips previous routing defer":                                                false,
		"(-54): connection limit reached for all hosts for 'far.example'":                                            false,
		"(-54): concurrency limit reached for transport":                                                             false,
		"(-54): no host found for existing SMTP connection":                                                          false,
		"(-57): remote deliveries suppressed":                                                                        false,
		"(0): SMTP delivery explicitly queued":                                                                       false,
		"(0): first-pass only routing due to -odqs, queue_smtp_domains or control=queue":                             false,
		"(-1): domain is held":                                                                                       false,
		"(-1): hold_domains lookup deferred":                                                                         false,
		"(-1): queue_domains lookup deferred":                                                                        false,
		"(111): Connection refused":                                                                                  true,
		"(-54): all host address lookups for 'far.example' failed temporarily":                                       true,
		"(-44) H=mx [192.0.2.1]: SMTP error from remote mail server after RCPT TO:<a@b>: 450 retry time not reached": true,
	} {
		if got := attempted(text); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
