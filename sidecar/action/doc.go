// Package action keeps a record of what root was told to do: mail taken out of the queue,
// logins suspended, scripts disabled. It owns a file that only root can read and write, with
// one line before each action and one after it; no other program reads orders there, and a
// line that somebody has altered makes undo refuse. It asks nobody. It tells what was done, by
// whom, and what is needed to take it back.
package action
