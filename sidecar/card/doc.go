// Package card makes the picture of an incident that operators see first: what was sent in each
// minute, where it was stopped, what it cost the others, what was done and what is left. It owns
// nothing. It asks nobody: whoever calls it has asked for the incident and for what was done
// about it. It tells the same on a terminal, in a file for a browser, and, without the names of
// others, in a letter to a customer; what is not known it leaves out.
package card
