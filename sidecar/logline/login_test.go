package logline

import "testing"

// As Exim 4.96 hands over what clients log in as: each escape stands for one byte, and all
// else stays, or two people would have one name.
func TestUnescapeLogin(t *testing.T) {
	for escaped, want := range map[string]string{
		`news@shop.example`:              "news@shop.example",
		`b\303\274cher@shop.example`:     "bücher@shop.example",
		`x\033@shop.example`:             "x\x1b@shop.example",
		`x033@shop.example`:              "x033@shop.example",
		`x\000\177@shop.example`:         "x\x00\x7f@shop.example",
		`DOMAIN\101nna`:                  `DOMAIN\101nna`, // a printable byte is not escaped
		`DOMAIN\nina`:                    `DOMAIN\nina`,
		`DOMAIN\nina@shop.example`:       `DOMAIN\nina@shop.example`,
		`x@shop.example\n`:               "x@shop.example ",
		`x%shop.example\t`:               "x%shop.example ",
		`x\33`:                           `x\33`,
		`x\0_3`:                          `x\0_3`,
		`x\`:                             `x\`,
		`x\400@shop.example`:             `x\400@shop.example`,
		`x\377@shop.example`:             `x\377@shop.example`, // no UTF-8
		`x\377\303\274\n@shop.example\n`: `x\377\303\274\n@shop.example\n`,
	} {
		if got := UnescapeLogin(escaped); got != want {
			t.Errorf("%s: %q, want %q", escaped, got, want)
		}
	}
}
