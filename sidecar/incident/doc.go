// Package incident joins what happens to a domain, or to a node, to incidents, each with its
// begin, its culprit, a timeline and copies of the evidence. It owns the incidents, the newest
// 1,000 of which are kept over restarts, in notes. It asks whether the cause of each is still
// there, and attribution who sends. It tells whoever watches of an incident that was opened, has
// become worse, has another culprit, or was closed: alerts are made of that.
package incident
