// Package script disables a file of a tenant that sends spam, such as a PHP script, and enables
// it again. It owns no state: what it has done is a File, which the caller keeps in the record of
// actions, and a Watch reads there which files it has looked at again. It asks the kernel, by
// descriptors below the account's home, of which no link is followed, because the tenant may
// rename what is there at any moment. It tells what else may belong to the script: processes,
// crontab lines, and files that have changed at the same time; and that a disabled one is back.
package script
