// Package near warns before a limit is used up. It owns samples, from the last ten minutes, of how
// much of each limit was used of which at least half is. It asks the settings for the limits. It
// tells operators, by an event, of each subject that has used 80% and will, at this rate, have used
// all within the hour.
package near
