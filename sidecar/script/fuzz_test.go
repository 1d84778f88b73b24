package script

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/sidecar/printable"
)

// Any name is kept as it is, and has a command.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"a.php", "two\nlines.php", "\xff\x00\u202e", `"quoted" 'too' \n`, "\u05d0\u05d1.php", "-rf", "$(reboot)"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		var was File
		b, err := json.Marshal(File{Path: Path("/home/bob/" + name)})
		if err == nil {
			err = json.Unmarshal(b, &was)
		}
		if err != nil || string(was.Path) != "/home/bob/"+name {
			t.Errorf("%q became %q, %v", name, string(was.Path), err)
		}
		if printable.Command("sluice script disable", was.Path.String()) == "" {
			t.Errorf("%q is in no command", name)
		}
	})
}

// No line makes a login below firstUID, or a home that is the root, an account.
func FuzzAccountOf(f *testing.F) {
	for line := range strings.Lines(passwd) {
		f.Add(line, "/home/bob/x")
	}
	f.Add("x:x:4294967296:1::/home/bob:", "/home/bob/x")
	f.Fuzz(func(t *testing.T, line, path string) {
		a, err := accountOf(strings.NewReader(line), path)
		if err == nil && (a.UID < firstUID || a.Home == "/" || !strings.HasPrefix(path+"/", a.Home+"/")) {
			t.Errorf("%q is of %+v", path, a)
		}
	})
}
