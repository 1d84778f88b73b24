package redisurl

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/sidecar/hosttest"
)

func TestGoodURLs(t *testing.T) {
	for text, want := range map[string]URL{
		"redis://127.0.0.1":                               {Kind: Single, Hosts: []string{"127.0.0.1:6379"}},
		"redis://redis.example:7301/3":                    {Kind: Single, Hosts: []string{"redis.example:7301"}, DB: 3},
		"redis://redis.example.":                          {Kind: Single, Hosts: []string{"redis.example.:6379"}},
		"redis://my_redis/":                               {Kind: Single, Hosts: []string{"my_redis:6379"}},
		"redis://[::1]:7301":                              {Kind: Single, Hosts: []string{"[::1]:7301"}},
		"redis://[fe80::1%25eth0]":                        {Kind: Single, Hosts: []string{"[fe80::1%eth0]:6379"}},
		"redis://:p%40ss@h":                               {Kind: Single, Hosts: []string{"h:6379"}, Password: "p@ss"},
		"redis://u:a:b@c+d@h":                             {Kind: Single, Hosts: []string{"h:6379"}, User: "u", Password: "a:b@c+d"},
		"unix:///run/redis/redis.sock":                    {Kind: Single, Hosts: []string{"/run/redis/redis.sock"}},
		"unix:/run/redis/redis.sock":                      {Kind: Single, Hosts: []string{"/run/redis/redis.sock"}},
		"unix://:pw@/run/r%20s.sock":                      {Kind: Single, Hosts: []string{"/run/r s.sock"}, Password: "pw"},
		"REDISS://h":                                      {Kind: Single, Hosts: []string{"h:6379"}, TLS: true},
		"rediss://h?tls=true&ca=/c%20a":                   {Kind: Single, Hosts: []string{"h:6379"}, TLS: true, CA: "/c a"},
		"rediss://h/0?cert=/c&key=/k":                     {Kind: Single, Hosts: []string{"h:6379"}, TLS: true, Cert: "/c", Key: "/k"},
		"redis-cluster://[::1]:7301,[::1]:7302":           {Kind: Cluster, Hosts: []string{"[::1]:7301", "[::1]:7302"}},
		"redis-cluster://[::1],[::2]":                     {Kind: Cluster, Hosts: []string{"[::1]:6379", "[::2]:6379"}},
		"redis-cluster://127.0.0.1:7301, 127.0.0.1:7302":  {Kind: Cluster, Hosts: []string{"127.0.0.1:7301", "127.0.0.1:7302"}},
		"redis-cluster://a,b:1,[::ffff:1.2.3.4]?tls=true": {Kind: Cluster, Hosts: []string{"a:6379", "b:1", "[::ffff:1.2.3.4]:6379"}, TLS: true},
		"redis-cluster://a?tls=false":                     {Kind: Cluster, Hosts: []string{"a:6379"}},
		"redis-cluster://a?ca=/ca":                        {Kind: Cluster, Hosts: []string{"a:6379"}, TLS: true, CA: "/ca"},
		"redis-sentinel://[::1]:26379,[::1]:26380/m":      {Kind: Sentinel, Hosts: []string{"[::1]:26379", "[::1]:26380"}, Master: "m"},
		"redis-sentinel://u:p@[::1]/m?sentinel_user=s%26&sentinel_password=a+%2Fb": {Kind: Sentinel, Hosts: []string{"[::1]:26379"}, Master: "m",
			User: "u", Password: "p", SentinelUser: "s&", SentinelPassword: "a+/b"},
	} {
		got, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(URL{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		for _, secret := range []string{"p%40ss", "a:b@c+d", ":pw", "a+%2Fb", ":p@"} {
			if strings.Contains(got.Shown(), secret) {
				t.Errorf("%s is shown as %s", text, got.Shown())
			}
		}
	}
}

// What each of these is refused for, in testdata/bad.want. A line that has "Secret" in it
// has it where the password is, or would be without the mistake.
func TestBadURLs(t *testing.T) {
	text, err := os.ReadFile("testdata/bad.urls")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		_, err := Parse(line)
		if err == nil {
			t.Errorf("%s: accepted", line)
			continue
		}
		if strings.Contains(err.Error(), "Secret") || strings.Contains(err.Error(), "99") {
			t.Errorf("%s: the error has the password: %v", line, err)
		}
		fmt.Fprintf(&got, "%s\n\t%v\n", line, err)
	}
	hosttest.Golden(t, "testdata/bad.want", got.String())
}

func TestShown(t *testing.T) {
	for text, want := range map[string]string{
		"redis://h":                     "redis://h",
		"redis://u:p@h:1/2":             "redis://u:***@h:1/2",
		"redis://:p@h":                  "redis://:***@h",
		"redis://:@h":                   "redis://:@h",
		"redis://u:a:b@c@h":             "redis://u:***@h",
		"unix:/run/r.sock":              "unix:///run/r.sock",
		"rediss://:p@h?ca=/a":           "rediss://:***@h?ca=/a",
		"redis-cluster://:p@[::1],a, b": "redis-cluster://:***@[::1],a, b",
		"redis-sentinel://:p@h/m?sentinel_password=q&tls=true": "redis-sentinel://:***@h/m?sentinel_password=***&tls=true",
	} {
		u, err := Parse(text)
		if err != nil || u.Shown() != want {
			t.Errorf("%s: %s, %v; want %s", text, u.Shown(), err, want)
		}
	}
}

// An accepted URL shows neither password, connects in clear text only where nothing in
// it speaks of TLS, and what is shown is not accepted where there was a password.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/bad.urls"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			f.Add(strings.TrimSuffix(line, "\n"))
		}
	}
	f.Add("redis-sentinel://u:pppppp@[::1]/m?sentinel_user=s&sentinel_password=qqqqqq&tls=true")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := Parse(text)
		if err != nil {
			return
		}
		if _, query, _ := strings.Cut(text, "?"); !u.TLS && (strings.Contains(query, "tls=true") || strings.Contains(query, "ca=")) && u.SentinelPassword == "" {
			t.Errorf("%q: without TLS", text)
		}
		again, err := Parse(u.Shown())
		if secret := u.Password+u.SentinelPassword != ""; secret != (err != nil) {
			t.Errorf("%q, shown as %q: %v", text, u.Shown(), err)
		} else if err == nil && cmp.Diff(u, again, cmpopts.IgnoreUnexported(URL{})) != "" {
			t.Errorf("%q is shown as %q", text, u.Shown())
		}
	})
}
