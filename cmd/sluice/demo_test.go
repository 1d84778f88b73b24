package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// texts parses a picture and returns its lines. It must have no script and load nothing.
func textsOf(t *testing.T, picture string) (lines []string) {
	t.Helper()
	for _, active := range []string{"<script", "href", "url(", "@import", "<foreignObject", "<image", "onload"} {
		if strings.Contains(picture, active) {
			t.Errorf("the picture has %s", active)
		}
	}
	in := xml.NewDecoder(strings.NewReader(picture))
	text := false
	for {
		token, err := in.Token()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if text = token.Name.Local == "text"; text {
				lines = append(lines, "")
			}
		case xml.EndElement:
			text = false
		case xml.CharData:
			if text {
				lines[len(lines)-1] += string(token)
			}
		}
	}
}

// Whatever the demo prints, the picture of it shows as text.
func TestTheRecordingEscapes(t *testing.T) {
	hosttest.Program(t, "perl")
	cmd := exec.Command("../../testdata/demo/record")
	cmd.Stdin = strings.NewReader("make says this\n\x1b[1mIt <script>alert(1)</script> & \"more\":\x1b[0m\n" +
		"$ echo '</text></svg>'\n\x1b]0;title\x07\x1b[31mred\x1b[0m\n" + strings.Repeat("long ", 40) + "\n\n\x1b[1mThe end\x1b[0m\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	picture := strings.Replace(string(out), "&lt;script&gt;", "", 1)
	got := strings.Join(textsOf(t, picture), "\n")
	for _, want := range []string{"It alert(1)</script> & \"more\":", "$ echo '</text></svg>'", "?]0;title?red", "\nThe end"} {
		if !strings.Contains(got, want) {
			t.Errorf("the picture does not show %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "make says") || strings.Count(got, "long") != 40 {
		t.Errorf("it shows what make says, or does not wrap:\n%s", got)
	}
}

// The picture in the README is of the demo as it is now: it has all that the demo tells.
// Made by: make demo && cp bin/demo.svg docs/
func TestTheRecordingIsOfThisDemo(t *testing.T) {
	picture, err := os.ReadFile("../../docs/demo.svg")
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.Join(textsOf(t, string(picture)), "\n")
	run, err := os.ReadFile("../../testdata/demo/run")
	if err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile(`(?m)^say "([^"$]+)`).FindAllStringSubmatch(string(run), -1)
	for _, m := range told {
		if !strings.Contains(shown, m[1]) {
			t.Errorf("docs/demo.svg does not show %q. Make it anew: make demo && cp bin/demo.svg docs/", m[1])
		}
	}
	if len(told) < 10 || !strings.Contains(shown, "has exceeded the max emails per hour") {
		t.Errorf("the demo tells %d things, of which the picture shows\n%s", len(told), shown)
	}
}
