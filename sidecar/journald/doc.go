// Package journald gives systemd's journal the log of this program: each line with its priority,
// and the name of its event and its attributes as fields beside the text. It owns nothing. It
// asks systemd whether stderr is its journal. It tells nobody else: without a journal, the log goes
// to stderr as text.
package journald
