// Package transaction joins the questions of Postfix, or of a milter, about one message.
// It owns the messages of the last hour or so that are on their way in. It asks nobody.
// It tells package policy which message a question is about, and under which id its
// sends are charged.
package transaction
