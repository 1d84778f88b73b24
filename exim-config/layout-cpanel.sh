# Sluice's installer: cPanel. Everything goes into /etc/exim.conf.local, which
# buildeximconf merges into each new /etc/exim.conf. Nothing is included: users
# in a jail have their own /etc, with exim.conf in it and nothing of ours.

etc=/etc/sluice
manifest=$etc/exim.installed
conf=''
local_conf=/etc/exim.conf.local
build=/usr/local/cpanel/scripts/buildeximconf
macros_are="$local_conf, section @BEGINACL@; set them in @CONFIG@"
reload=/usr/local/cpanel/scripts/restartsrv_exim

ready() { [ -x $build ] || die "this is no cPanel: there is no $build"; }

stage() {
    [ "$way" != perl ] || whole "$here/sluice.pl" $etc/sluice.pl || return 1
    main | section CONFIG
    { macros; cat "$here/acl.conf"; } | section BEGINACL
    section ROUTERSTART <"$here/routers.conf"
    section RETRYSTART <"$here/retry.conf"
}

# main: an option in @CONFIG@ takes the place of cPanel's own. In a jail there is
# no sluice.pl, and nobody answers.
main() {
    say "acl_smtp_rcpt = acl_sluice_rcpt"
    say "acl_smtp_data = acl_sluice_data"
    say "acl_not_smtp = acl_sluice_not_smtp"
    [ "$way" != perl ] || startup | sed "s|= |= $(site perl_startup); |"
}

site_acl() { site "$1"; }

# section puts a block first into a section of exim.conf.local.
section() {
    cat >"$work/text"
    block $local_conf after "^@$1@" <"$work/text" ||
        { say "@$1@"; cat "$work/text"; } | block $local_conf bottom
}

# Only cPanel can make its configuration. It checks it before it installs it.
generate() { :; }

go_live() { $build; }

hint_site_acl() { say "Remove that line from $local_conf."; }
hint_routers() { say "See to it that nothing stands before ours in @ROUTERSTART@ of $local_conf."; }
