// Package redistest starts Redis servers, clusters and Sentinels for tests, and a Proxy
// that disturbs a connection to one. It owns the processes that it starts, and ends them
// with their test. It asks hosttest for programs and ports. It tells the test when one
// does not start.
package redistest
