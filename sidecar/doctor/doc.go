// Package doctor examines a host: whether mail is limited, counted and attributed as
// the configuration says, and what to do where it is not. It owns nothing and changes
// nothing. It asks Exim (package exim), the running sluice (package admin), the kernel,
// and the files that the configuration names. It tells its caller its findings, in the
// order in which a message meets what they are about.
package doctor
