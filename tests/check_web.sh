#!/bin/sh
# check_web.sh - the page of examples/web: its module wants nothing, and everything it shows is, to the bit, what a
# native build of the same code computes: under node, in headless Chromium, and the sound of its AudioWorklet.
set -u
out=build/check/web
mkdir -p $out
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"

. tests/expect.sh

# needs NAME TOOL PACKAGE: whether the tool is there; says so if it is not
needs() {
    command -v "$2" > /dev/null || { echo "skip web/$1 (needs $3)"; return 1; }
}

# same_bits MODULE: no imports, and the native numbers
same_bits() {
    node tests/web.js module "$1" > $out/node.txt && sed 1d $out/node.txt | diff $out/native.txt -
}
no_imports() { grep -qx 'imports 0' $out/node.txt; }
builds() { [ -s $out/command ] && sh $out/command.run; }
small() { [ "$(wc -c < $out/layer.wasm)" -le 49152 ]; }
self_contained() {
    [ -s "$1" ] && ! grep -n -E '(src|href)="[^"]*"|https?://|@import|url\(' "$1" | grep -v 'href="data:,"'
}

native() {
    $1 -std=c99 -O2 -ffp-contract=off $warnings tests/web.c -o $out/native && $out/native > $out/native.txt &&
        [ "$(wc -l < $out/native.txt)" -eq 32 ]
}

compiler=gcc
command -v gcc > /dev/null || compiler=${CC:-cc}
expect web/native native $compiler

page=examples/web/index.html
if needs module clang clang && needs module wasm-ld lld; then
    # The command as the file prints it.
    sed -n '/^ \*   clang/,/layer\.c$/s/^ \* *//p' examples/web/layer.c > $out/command
    sed "s|-o layer.wasm|$warnings -o $out/layer.wasm|" $out/command > $out/command.run
    expect web/builds builds
    expect web/small small
    expect web/make_builds make -s web
    expect web/make_same_module cmp $out/layer.wasm build/web/layer.wasm
    expect web/self_contained self_contained build/web/index.html
    page="$page build/web/index.html"
    if needs built-node_bits node nodejs; then
        expect web/built-node_bits same_bits $out/layer.wasm
        expect web/built-no_imports no_imports
    fi
fi

# The committed module may be of another clang, or older than ssm.h, as long as it computes the same.
if needs committed-node_bits node nodejs; then
    expect web/committed-node_bits same_bits examples/web/module.js ||
        echo "update it: make web && cp build/web/module.js examples/web/"
    expect web/committed-no_imports no_imports

    browser=
    for name in "${CHROMIUM:-chromium}" chromium-browser google-chrome; do
        [ -n "$browser" ] || browser=$(command -v "$name")
    done
    if [ -z "$browser" ]; then
        echo "skip web/page (needs chromium)"
    else
        for file in $page; do
            case $file in
            build/*) label=built ;;
            *) label=committed ;;
            esac
            node tests/web.js page "$browser" "$file" $out/native.txt $label
        done
    fi
fi
