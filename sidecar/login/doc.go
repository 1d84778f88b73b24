// Package login suspends the logins of mailboxes whose password has been stolen, and resumes
// them. It owns the file of logins that Dovecot denies; passwords are the panel's. It asks
// cPanel's uapi, Dovecot's doveadm, or a program that the operator has put beside the
// configuration. It tells its caller what was done, in the form in which that is recorded.
package login
