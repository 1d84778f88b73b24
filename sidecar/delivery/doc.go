// Package delivery finds in the mail server's logs what became of messages. It owns the
// messages that are still on their way, the recipients that aliases and lists have made of
// them (redirects), what questions have said of the programs that sent them (asked) and have
// charged for messages that have not arrived yet (sends), and how far each log was read. It asks
// the settings which lines are about sends to other hosts and who pays for them, and the store
// which sends were charged. It tells the store each outcome, and its Observers those that are new.
package delivery
