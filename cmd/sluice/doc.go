// Command sluice is a policy sidecar for Exim: `sluice serve` answers the mail server, the
// other commands are for its operators. It owns nothing but the process: the order in which
// the parts are opened, connected and stopped (serve.go). Commands ask the running sluice
// over the admin socket, and `sluice check` asks over the policy socket. It tells operators
// on standard output what it did, on standard error why it failed, and systemd whether it
// answers.
package main
