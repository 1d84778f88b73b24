// Package config is the configuration file, /etc/sluice/sluice.toml. It owns its keys,
// their defaults, and where each value comes from. It asks packages field, limit
// and redisurl what a value may be. It tells an operator all mistakes of a file at once,
// with their lines, and nobody a password.
package config
