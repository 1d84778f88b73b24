// Package near tells in time that a limit will be used up. It owns what those who have used
// half of a limit had used in the last ten minutes. It asks the settings for limits. It tells
// operators, by an event, of whom 80% are used, and at this rate all within the hour.
package near
