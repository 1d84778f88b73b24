package listen

import (
	"fmt"
	"os"
	"strings"
)

// minToken is the length in bytes from which a token cannot be guessed.
const minToken = 16

// Tokens reads from the file of a configuration key the tokens with which clients on TCP prove who they are, one per line;
// a question may have any of them. It fails if every user may read the file: only root and
// those may who are asked for a token.
func Tokens(key, path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the tokens for TCP (%s): %w", key, err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("read the tokens for TCP: every user may read %s; try: chmod o= %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the tokens for TCP (%s): %w", key, err)
	}
	tokens := strings.Fields(string(text))
	for _, t := range tokens {
		if len(t) < minToken {
			return nil, fmt.Errorf("read the tokens for TCP: one in %s has fewer than %d characters; try: openssl rand -hex 16", path, minToken)
		}
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("read the tokens for TCP: %s has none; try: openssl rand -hex 16 >%s", path, path)
	}
	return tokens, nil
}
