package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// What `sluice config --check` says of each store.url; "" is that it is good.
func TestConfigCheckOfStoreURLs(t *testing.T) {
	for url, want := range map[string]string{
		"redis-cluster://[::1]:7301,[::1]:7302":                                            "",
		"redis-cluster://[::1],[::2]":                                                      "",
		"redis-sentinel://[::1]:26379,[::1]:26380/m":                                       "",
		"redis-cluster://127.0.0.1:7301, 127.0.0.1:7302":                                   "",
		"redis-sentinel://:dbpw@127.0.0.1:7522/m":                                          "",
		"redis-sentinel://:dbpw@127.0.0.1:7522/m?sentinel_user=s&sentinel_password=sentpw": "",

		"redis://::1:7301":                             "an IPv6 address needs brackets",
		"redis://127.0.0.1:7622?tls=1":                 `parameter "tls"`,
		"redis://127.0.0.1:7622?tls=yes":               `parameter "tls"`,
		"redis://127.0.0.1:7622?tls=True":              `parameter "tls"`,
		"redis://127.0.0.1:7622?TLS=true":              `parameter "TLS"; did you mean "tls"?`,
		"redis://127.0.0.1:7622?ssl=true":              `parameter "ssl"; did you mean "tls"?`,
		"redis://127.0.0.1:7622?cafile=/etc/ssl/x.pem": `parameter "cafile"; did you mean "ca"?`,
		"redis://127.0.0.1:7622?key=/etc/ssl/k.pem":    `parameter "key"`,
		"redis-sentinel://127.0.0.1/m?tls=on":          `parameter "tls" must be true or false`,
		"redis://:Top/Secret#99@127.0.0.1:7621":        "the user or password has characters that must be percent-encoded",
		"rediss://h?ca=/nonexistent/ca.pem":            "store.url: read ca: open /nonexistent/ca.pem: no such file or directory",
	} {
		file := t.TempDir() + "/sluice.toml"
		writeFile(t, file, fmt.Sprintf("[panel]\nfollow = false\n[store]\nurl = '%s'\n", url))
		var out bytes.Buffer
		code := run(t.Context(), []string{"config", "--check", "--config", file}, strings.NewReader(""), &out, &out)
		bad := want != ""
		if (code == exitNo) != bad || (code == exitDone) == bad || !strings.Contains(out.String(), want) || bad && !strings.Contains(out.String(), file+":4: store.url: ") {
			t.Errorf("%s: exit %d: %s", url, code, out.String())
		}
	}
}
