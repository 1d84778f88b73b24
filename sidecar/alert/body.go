package alert

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"regexp"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/config"
)

// body is what is posted to a webhook.
func body(c config.Channel, n Notice) ([]byte, error) {
	switch c.Format {
	case config.FormatSlack:
		return json.Marshal(map[string]string{"text": slackText("*[sluice " + n.Node + "] " + n.Title + "*\n" + n.Text)})
	case config.FormatAlertmanager:
		if n.State == StateTest {
			return testAlert(n)
		}
		return []byte(n.Text), nil
	}
	return json.Marshal(n)
}

// slackText escapes what Slack would take for a link, a mention or a command.
func slackText(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// Sign returns the value of X-Sluice-Signature for what is posted: sha256= and the HMAC-SHA256 of
// the body in hexadecimal digits.
func Sign(key, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// oddID are the bytes that no id of a notice has.
var oddID = regexp.MustCompile(`[^A-Za-z0-9.-]`)

// Message returns a notice as a mail from the sender of notices to the target of a channel. What
// is in the notice becomes a subject and a text, and nothing else of the message.
func Message(from string, c config.Channel, node string, n Notice) []byte {
	_, domain, _ := strings.Cut(from, "@")
	title := sidecar.Printable(fmt.Sprintf("[sluice %s] %s", node, n.Title))
	var b strings.Builder
	fmt.Fprintf(&b, "From: Sluice <%s>\nTo: %s\n", from, c.Target)
	fmt.Fprintf(&b, "Subject: %s\n", foldWords(mime.QEncoding.Encode("utf-8", title)))
	fmt.Fprintf(&b, "Date: %s\n", n.At.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "Message-ID: <%s@%s>\n", oddID.ReplaceAllString(n.ID, ""), domain)
	if n.Incident != "" {
		fmt.Fprintf(&b, "References: <%s@%s>\n", oddID.ReplaceAllString(n.Incident, ""), domain)
	}
	b.WriteString("Auto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n")
	b.WriteString(sidecar.PrintableLines(n.Text))
	return []byte(b.String())
}

// foldWords puts each encoded word on a line of its own (RFC 2047, section 2).
func foldWords(text string) string { return strings.ReplaceAll(text, "?= =?", "?=\n =?") }
