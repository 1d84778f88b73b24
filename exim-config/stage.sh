# Sluice's installer: the stage, where files are made before they are put in
# place. $work/root has them by path, $work/paths lists the paths.
#
# A file is ours as a whole, or it is the site's and has blocks of ours, between
# lines "# BEGIN sluice" and "# END sluice". What is outside them is never
# changed. $manifest remembers a checksum of what is ours, to notice changes.

sum() { ours "$1" | sha256sum | cut -d' ' -f1; }
sum_put_in() { [ -f $manifest ] && sed -n "s|^\([0-9a-f]\{64\}\)  $1\$|\1|p" $manifest; }

has_blocks() { grep -q '^# BEGIN sluice' "$1"; }

# ours is what of a file is ours.
ours() {
    if has_blocks "$1"; then sed -n '/^# BEGIN sluice/,/^# END sluice/p' "$1"; else cat "$1"; fi
}

# staged is the path of a file on the stage. The first time it is asked for, the
# file gets there as it is, without our blocks.
staged() {
    to=$work/root$1
    grep -qxF "$1" "$work/paths" || {
        say "$1" >>"$work/paths"
        mkdir -p "${to%/*}"
        [ ! -f "$1" ] || { cp -p "$1" "$to" && sed -i '/^# BEGIN sluice/,/^# END sluice/d' "$to"; }
    }
    say "$to"
}

# whole stages a file of ours.
whole() { # from, to
    if [ -f "$2" ] && [ -z "$(sum_put_in "$2")" ] && ! cmp -s "$1" "$2"; then
        say "$2 exists, and it is not from Sluice. Move it away first." >"$work/errors"
        return 1
    fi
    file=$(staged "$2") && cp "$1" "$file" && chmod 644 "$file"
}

# block stages a block of ours, read from stdin, in a file of the site's: at the
# top or bottom, or before or after the first line that matches.
block() { # file, before|after|top|bottom, regular expression
    file=$(staged "$1")
    [ -f "$file" ] || : >"$file"
    { say "# BEGIN sluice: from Sluice's installer, which takes it out again"
        cat
        say "# END sluice"; } >"$work/block"
    awk -v where="$2" -v line="${3:-}" -v block="$work/block" '
        function put() { while ((getline text <block) > 0) print text; done = 1 }
        BEGIN { if (where == "top") put() }
        !done && $0 ~ line && where == "before" { put() }
        { print }
        !done && $0 ~ line && where == "after" { put() }
        END { if (where == "bottom") put(); exit !done }' "$file" >"$work/new" && cat "$work/new" >"$file"
}

# site_options notes options as the site has them without us. Where only the
# panel could tell, they are as they were before we were put in.
site_options() {
    for name in acl_smtp_rcpt acl_smtp_data acl_not_smtp perl_startup; do
        if [ ! -f "$work/config" ] && [ -f $manifest ]; then grep "^# site $name =" $manifest
        else say "# site $name = $(option $name)"; fi
    done >"$work/site"
}

site() { sed -n "s/^# site $1 = //p" "$work/site"; }

# unstage stages all files that were put in as they are without us. What was put
# in last is taken out first: our routers need our macros.
unstage() {
    sed -n 's/^[0-9a-f]\{64\}  //p' $manifest >"$work/installed"
    [ $action != remove_all ] || { tac "$work/installed" >"$work/new" && mv "$work/new" "$work/installed"; }
    while read -r path; do
        file=$(staged "$path")
        if ! has_blocks "$path" 2>/dev/null || [ ! -s "$file" ]; then rm -f "$file"; fi
    done <"$work/installed"
}

# put_in_place copies the stage over what is there, in the order in which it was
# staged. What was there is remembered for put_back.
put_in_place() {
    mkdir -p "${manifest%/*}"
    keep $manifest
    while read -r path; do
        keep "$path"
        put_file "$path" || return 1
    done <"$work/paths"
    if [ $action = remove_all ]; then rm -f $manifest; else write_manifest; fi
}

put_file() {
    new=$work/root$1
    if [ -f "$new" ] && cmp -s "$new" "$1"; then
        say "$1 is up to date"
        return 0
    fi
    if [ -f "$1" ] && [ -n "$(sum_put_in "$1")" ] && [ "$(sum "$1")" != "$(sum_put_in "$1")" ]; then
        cp -p "$1" "$1.changed" || return 1
        say "$1 was changed by hand; your version is now $1.changed"
    fi
    if [ ! -f "$new" ]; then
        rm -f "$1" && say "$1 removed"
        return
    fi
    mkdir -p "${1%/*}" && cp -p "$new" "$1.new" && mv "$1.new" "$1" && say "$1 put in"
}

# write_manifest lists what is now in place, and what the site had instead.
write_manifest() {
    {
        say "# layout $layout"
        say "# way $way"
        [ -z "$conf" ] || say "# config $conf"
        cat "$work/site"
        while read -r path; do
            say "$(sum "$path")  $path"
        done <"$work/paths"
    } >"$work/manifest"
    cp "$work/manifest" $manifest
}

n=0
keep() {
    n=$((n + 1))
    say "$1" >"$work/kept.$n.path"
    [ ! -f "$1" ] || cp -p "$1" "$work/kept.$n"
}

put_back() {
    i=0
    while [ $i -lt $n ]; do
        i=$((i + 1))
        path=$(cat "$work/kept.$i.path")
        if [ -f "$work/kept.$i" ]; then cp -p "$work/kept.$i" "$path"; else rm -f "$path"; fi
    done
}
