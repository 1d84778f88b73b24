# Sluice's installer: DirectAdmin, by the files that its exim.conf includes. The
# retry rule alone has no such file: it goes into exim.conf, and has to be put in
# again after "build exim_conf". Until then held mail has the site's own rule.

etc=/etc/sluice
manifest=$etc/exim.installed
conf=/etc/exim.conf
macros_file=/etc/exim.variables.conf.custom
macros_are="/etc/exim.acl_check_recipient.pre.conf; set them in $macros_file"
reload="systemctl restart exim"
acls_in_rcpt=yes

ready() {
    [ -f $conf ] || die "there is no $conf"
    grep -q '/etc/exim\.routers\.pre\.conf' $conf ||
        die "$conf does not include /etc/exim.routers.pre.conf: it is not DirectAdmin's"
}

# The macros come with the first ACL, for nothing that is included comes before
# it but what is the site's. Macros may stand between ACLs, not within one.
stage() {
    [ "$way" != perl ] || {
        whole "$here/sluice.pl" $etc/sluice.pl || return 1
        startup | sed "s/^perl_startup = //; s/\$/;/" | block /etc/exim.custom.pl top
    }
    for pair in rcpt:check_recipient data:check_message not_smtp:script; do
        first_in "${pair%%:*}" | block "/etc/exim.acl_${pair##*:}.pre.conf" top
    done
    block /etc/exim.routers.pre.conf top <"$here/routers.conf"
    block $conf after '^[[:space:]]*begin[[:space:]]+retry' <"$here/retry.conf"
}

acls() {
    macros
    cat "$here/acl.conf"
}

site_acl() { say "acl_sluice_site_${1#acl_}" | sed 's/_site_smtp_/_site_/'; }

generate() {
    file=$conf
    [ ! -f "$work/root$conf" ] || file=$work/root$conf
    cp "$file" "$1"
}

go_live() { :; }

hint_site_acl() { say "See to it that nothing that accepts stands before ours in that ACL."; }
hint_routers() { say "See to it that nothing stands before ours in /etc/exim.routers.pre.conf."; }
