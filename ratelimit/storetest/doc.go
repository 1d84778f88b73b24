// Package storetest checks that a store keeps the promises of package ratelimit. It owns
// a log of random sends, in which it counts exactly. It asks the store the same
// questions and compares the answers. It tells the test of the first that is wrong.
package storetest
