// Package suspension blocks whom a hosting panel has suspended or put on hold. It owns
// nothing. It asks the settings in force, which hold what the panel's files say. It tells
// nobody: policy asks it with every question.
package suspension
