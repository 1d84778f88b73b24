// Package refusal counts refusals that the counts of limits do not show: what watched limits
// would have refused, over weeks, and what was refused of a domain while all of its mail is
// blocked. It owns these counts, and keeps them over a restart. It asks the settings who is
// watched, and the policy who is blocked. It tells operators, who decide by them whether
// limits that are only watched can be enforced.
package refusal
