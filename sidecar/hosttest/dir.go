package hosttest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// OpenDir is t.TempDir for a test in which other users read what is in it. The directory that
// Go makes around it is the test's too, and only its owner gets in. Those above are the
// machine's, and stay as they are.
func OpenDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}
