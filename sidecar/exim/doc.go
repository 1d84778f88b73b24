// Package exim runs Exim: to ask for its configuration (-bP, -be), and to have it
// deliver messages that wait in its queue (-M). It owns a file of what
// Exim has said last of its lists, and knows Exim's command line, what Exim prints, and the
// protocol of `sluice deliver`, which runs Exim for a sluice that is confined. It asks Exim
// and the system's list of users. It tells its callers what Exim said; what that means for
// mail is for them to judge.
package exim
