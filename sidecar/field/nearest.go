package field

import (
	"fmt"
	"strings"
)

// Suggest says which of some words was probably meant, or which there are.
func Suggest(word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "known: " + strings.Join(known, ", ")
}

// Nearest returns the word that was probably meant: the one with the fewest typing
// errors, at most a third of its letters; "" if there is none.
func Nearest(word string, known []string) string {
	best, least := "", 1+max(1, len(word)/3)
	for _, k := range known {
		if d := EditDistance(word, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// EditDistance is the number of bytes to insert, remove or replace that make a of b
// (Levenshtein).
func EditDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitution := diagonal
			if a[i] != b[j] {
				substitution++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitution, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
