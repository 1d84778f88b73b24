package eximconfig_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
)

// buildSluice builds the binary under test, once for all tests.
var buildSluice = sync.OnceValues(func() (string, error) {
	path := filepath.Join(sharedDir(), "sluice")
	out, err := exec.Command("go", "build", "-o", path, "sluice/cmd/sluice").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build sluice: %w\n%s", err, out)
	}
	return path, nil
})
