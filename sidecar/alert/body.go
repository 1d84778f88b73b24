package alert

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/printable"
)

// body is what is posted to a webhook.
func body(c config.Channel, n Notice) ([]byte, error) {
	switch c.Format {
	case config.FormatSlack:
		return json.Marshal(map[string]string{"text": "*[sluice " + slackText(n.Node) + "]* `" + slackText(n.Title) + "`\n```\n" + slackText(n.Text) + "```"})
	case config.FormatAlertmanager:
		if n.State == StateTest {
			return testAlert(n)
		}
		return []byte(n.Text), nil
	}
	return json.Marshal(n)
}

// slackText is text within code, where Slack and those who take the same, as Mattermost, heed no link, mention (which
// is @all there) or markup. What would end the code, or is special there too, is replaced.
func slackText(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "'").Replace(text)
}

// sign returns the value of X-Sluice-Signature for what is posted: sha256= and the HMAC-SHA256 of
// the body in hexadecimal digits.
func sign(key, body []byte) string {
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
	title := printable.Of(fmt.Sprintf("[sluice %s] %s", node, n.Title))
	var b strings.Builder
	fmt.Fprintf(&b, "From: Sluice <%s>\nTo: %s\n", from, c.Target)
	fmt.Fprintf(&b, "Subject: %s\n", foldWords(mime.QEncoding.Encode("utf-8", title)))
	fmt.Fprintf(&b, "Date: %s\n", n.At.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "Message-ID: <%s@%s>\n", oddID.ReplaceAllString(n.ID, ""), domain)
	if n.Incident != "" {
		fmt.Fprintf(&b, "References: <%s@%s>\n", oddID.ReplaceAllString(n.Incident, ""), domain)
	}
	b.WriteString("Auto-Submitted: auto-generated\nMIME-Version: 1.0\n")
	const plain = "Content-Type: text/plain; charset=utf-8\n"
	text := "Content-Transfer-Encoding: 8bit\n\n" + printable.Lines(n.Text)
	if n.Card == "" || n.Incident == "" {
		b.WriteString(plain + text)
		return []byte(b.String())
	}
	// Behind the text is the picture of the incident, which programs for mail show as it is, and
	// offer as a file. In base64 no line of it ends the part, or is wrapped.
	name := oddID.ReplaceAllString(n.Incident, "")
	between := "--" + boundary(n) + "\n"
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\n\n", boundary(n))
	b.WriteString(between + plain + text + "\n" + between + plain)
	fmt.Fprintf(&b, "Content-Disposition: inline; filename=\"%s.txt\"\nContent-Transfer-Encoding: base64\n\n", name)
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString([]byte(printable.Lines(n.Card)))), 76) { // RFC 2045, section 6.8
		b.Write(append(line, '\n'))
	}
	fmt.Fprintf(&b, "--%s--\n", boundary(n))
	return []byte(b.String())
}

// boundary stands between the parts of a notice. It is made of the text, so that nobody who
// chooses a part of that can write it there.
func boundary(n Notice) string {
	sum := sha256.Sum256([]byte(n.ID + "\n" + n.Text))
	return "sluice-" + hex.EncodeToString(sum[:16])
}

// foldWords puts each encoded word on a line of its own (RFC 2047, section 2).
func foldWords(text string) string { return strings.ReplaceAll(text, "?= =?", "?=\n =?") }
