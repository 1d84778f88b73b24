package script

import (
	"bufio"
	"cmp"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// An Opcache is how soon PHP notices that a file has changed.
type Opcache struct {
	Within time.Duration // by opcache.revalidate_freq, the longest of all PHPs of this host
	Never  string        // file with opcache.validate_timestamps=0; empty: there is none
}

// revalidate is PHP's opcache.revalidate_freq where no file has it.
const revalidate = 2 * time.Second

// phpFiles are the configuration files of PHP: Debian's, those of Red Hat and its
// descendants, cPanel's and CloudLinux's.
var phpFiles = []string{
	"etc/php/*/*/php.ini", "etc/php/*/*/conf.d/*.ini", "etc/php/*/*/pool.d/*.conf",
	"etc/php.ini", "etc/php.d/*.ini", "etc/php-fpm.d/*.conf",
	"opt/cpanel/ea-php*/root/etc/php.ini", "opt/cpanel/ea-php*/root/etc/php.d/*.ini", "opt/cpanel/ea-php*/root/etc/php-fpm.d/*.conf",
	"opt/alt/php*/etc/php.ini", "opt/alt/php*/etc/php.d/*.ini",
}

// ReadOpcache reads PHP's configuration files below a root directory. A script can set both
// values for itself too.
func ReadOpcache(root fs.FS) Opcache {
	o := Opcache{Within: revalidate}
	for _, pattern := range phpFiles {
		names, _ := fs.Glob(root, pattern) // the patterns are good
		for _, name := range names {
			o.read(root, name)
		}
	}
	return o
}

func (o *Opcache) read(root fs.FS, name string) {
	f, err := root.Open(name)
	if err != nil {
		return // of a PHP that was just removed
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value := directive(lines.Text())
		switch key {
		case "opcache.revalidate_freq":
			if n, err := strconv.ParseUint(value, 10, 31); err == nil {
				o.Within = max(o.Within, time.Duration(n)*time.Second)
			}
		case "opcache.validate_timestamps":
			if off(value) {
				o.Never = cmp.Or(o.Never, path.Join("/", name))
			}
		}
	}
}

// directive returns the key and the value of a line of php.ini, or of a pool of php-fpm,
// which has php_admin_value[KEY] = VALUE. Of a comment both are empty.
func directive(line string) (key, value string) {
	line, _, _ = strings.Cut(line, ";")
	key, value, _ = strings.Cut(line, "=")
	key = strings.TrimSpace(key)
	if _, inside, ok := strings.Cut(key, "["); ok {
		key = strings.TrimSuffix(inside, "]")
	}
	return key, strings.Trim(strings.TrimSpace(value), `"'`)
}

// off reports whether PHP takes a value for false.
func off(value string) bool {
	switch strings.ToLower(value) {
	case "0", "off", "no", "false", "none", "":
		return true
	}
	return false
}
