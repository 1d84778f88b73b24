// Package wording is the texts of refusals: who has exceeded which limit, what is counted,
// when there is room again, and where the limit comes from. It owns nothing. It asks nobody.
// It tells package policy what to answer, and to have logged.
package wording
