package policyd

import (
	"context"
	"fmt"
	"time"

	"sluice/sidecar"
)

// answerPostfix answers one of Postfix's own questions. They carry no token, so only the
// user that connects shows who asks: on TCP they are not served.
//
// Whose socket the client's is, is kept on the connection, which one smtpd process has:
// of Postfix's questions about a message only the first is sure to come while the client
// waits.
func (s *Server) answerPostfix(ctx context.Context, now time.Time, c *conn, attrs *attributes, dst []byte) ([]byte, error) {
	r, err := postfixRequest(attrs)
	if err != nil {
		return nil, err
	}
	if len(s.opts.Tokens) > 0 {
		return nil, fmt.Errorf("%w: Postfix has none and must ask on a unix socket", errToken)
	}
	if r.Stage == "" {
		return appendReply(dst, r.Stage, sidecar.Reply{}, nil), nil
	}
	if c.kept.instance == r.Instance {
		r.Socket = c.kept.socket
	}
	reply, err := s.ask(ctx, now, &r)
	if err != nil {
		return nil, err
	}
	c.kept = keptSocket{r.Instance, reply.Socket}
	return appendReply(dst, r.Stage, reply, nil), nil
}

// A keptSocket is whose socket the client of a message of Postfix is, once that is known.
type keptSocket struct{ instance, socket string }

// postfixRequest parses Postfix's questions (request=smtpd_access_policy,
// SMTPD_POLICY_README). It leaves the stage empty for those at other stages than RCPT and
// END-OF-MESSAGE, which need no verdict. It ignores attributes that the policy does not
// use.
func postfixRequest(as *attributes) (r sidecar.Request, _ error) {
	for {
		name, v, err := as.next()
		if err != nil {
			return r, err
		}
		if name == nil {
			break
		}
		switch string(name) {
		case "protocol_state":
			r.Stage = postfixStage(v)
		case "instance":
			r.Instance = string(v)
		case "queue_id":
			r.ID = string(v)
		case "sender":
			r.Sender = string(v)
		case "recipient":
			r.Recipient = string(v)
		case "recipient_count":
			r.Count, err = parseRecipients(v)
		case "sasl_username":
			r.Auth = string(v)
		case "client_address":
			r.ClientAddress = string(v)
		case "client_port":
			r.ClientPort = string(v)
		case "server_address":
			r.ServerAddress = string(v)
		case "server_port":
			r.ServerPort = string(v)
		}
		if err != nil {
			return r, fmt.Errorf("%w: %s=%s: %w", errMalformed, name, clip(v), err)
		}
	}
	if r.Stage != "" && r.Instance == "" {
		return r, fmt.Errorf("%w: it has no instance", errMalformed)
	}
	return r, nil
}

func postfixStage(v []byte) sidecar.Stage {
	switch string(v) {
	case "RCPT":
		return sidecar.StagePostfixRcpt
	case "END-OF-MESSAGE":
		return sidecar.StagePostfixEnd
	}
	return ""
}

// maxRecipients is the largest number of recipients that is believed. Postfix's own limit
// is 1,000 (smtpd_recipient_limit).
const maxRecipients = 100_000

func parseRecipients(v []byte) (int, error) {
	n, err := parseCount(v)
	if err == nil && n > maxRecipients {
		return 0, fmt.Errorf("more than %d recipients", maxRecipients)
	}
	return n, err
}
