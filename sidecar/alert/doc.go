// Package alert notifies operators of incidents: by mail, by a webhook, or by a program of theirs. It
// owns, for each channel, a record of what was sent and a queue of notices in files, so that no
// notice is lost in a crash. It asks the configuration in force, the incidents as they are now, and
// whose a domain is. It tells each channel when an incident opens, becomes worse, has another
// culprit, goes on or is over and, where that is configured, what operators do. The notices are
// bounded, so that no tenant drowns another's alarm.
package alert
