// Package admin is the front for operators: HTTP with JSON on a unix socket, which the
// commands of cmd/sluice ask; the package has both ends of it. It owns the socket. It asks
// a Backend, and the kernel which user has connected. It tells the commands the answers:
//
//	GET  /status[?scope=S]            operator.Status
//	POST /lock    {"domain"}          {"warning"}
//	POST /unlock  {"domain"}          {"warning"}
//	POST /reset   {"scope"}           {"warning"}
//	POST /change  ChangeRequest       operator.Result
//	GET  /history[?scope=S]           []history.Change
//	GET  /explain?scope=S             operator.Explanation
//	GET  /export[?scope=S&left=true]  []history.Saved
//	POST /import  Lines               operator.Import
//	GET  /config                      []config.Value
//	GET  /version                     Version
//	POST /alert   {"channel"}         alert.Tested
//	GET  /metrics, /healthz, /readyz  text: see package web
//
// Who asks is known from the credentials of the socket, never from the question. A refusal
// is {"error": "..."} with status 400 for a bad question, 403 if this user may not ask, 404
// if nothing is known of the domain or scope, 408 if the question comes too late, 409 if
// nothing would change or the panel still blocks the domain, and 500 if it failed.
package admin
