#!/bin/sh
# check_header.sh - what ssm.h says about itself is true. Needs a C compiler (CC) and POSIX tools.
out=build/header
mkdir -p $out

# report NAME STATUS
report() {
    if [ "$2" -eq 0 ]; then echo "ok   header/$1"; else echo "FAIL header/$1"; failed=1; fi
}
failed=0

# The quick start, from the first comment of ssm.h.
sed -n '/^ \* QUICK START/,/^ \* CONTENTS/{/^ \*   /s/^ \*   //p;/^ \*$/s/.*//p;}' ssm.h |
    awk 'NF { for (; blank; --blank) if (seen) print ""; print; seen = 1; next } { blank += 1 }' > $out/quickstart.c
${CC:-cc} -std=c99 -I. $out/quickstart.c -o $out/quickstart && grep -q 'int main' $out/quickstart.c
report quick_start_builds $?
$out/quickstart
report quick_start_runs $?

# The same program stands in the README, in its only ```c block that has a main.
awk '/^```c$/ { block = ""; inside = 1; next }
     /^```$/ { if (inside && block ~ /int main/) printf "%s", block; inside = 0; next }
     inside { block = block $0 "\n" }' README.md | diff $out/quickstart.c - > $out/readme.diff
report quick_start_in_readme $?
cat $out/readme.diff

# The contents list and the tags of the banners, in order. >>top is the page itself.
sed -n '/^ \* CONTENTS/,/^ \*\//s/^ \*   >>\([a-z0-9-]*\).*/\1/p' ssm.h > $out/contents
{ echo top; sed -n 's/^ \* >>\([a-z0-9-]*\).*/\1/p' ssm.h; } > $out/tags
diff $out/contents $out/tags
report contents_list $?

# A tag that prose refers to exists.
grep -E '^ \*|/\*' ssm.h | grep -o '>>[a-z][a-z0-9-]*' | sed 's/>>//' | sort -u > $out/mentioned
sort -u $out/tags | comm -13 - $out/mentioned | grep .
report tags_mentioned $((! $?))

# The three ways in which the file gives its version.
version=$(sed -n '1s/.*version \([0-9.]*\).*/\1/p' ssm.h)
parts=$(awk '/^#define SSM_VERSION_(MAJOR|MINOR|PATCH) / { printf "%s.", $3 }' ssm.h)
grep -q "^#define SSM_VERSION_STRING \"$version\"" ssm.h && [ "$version." = "$parts" ]
report version $?

LC_ALL=C grep -n '[^ -~]' ssm.h
report ascii_without_tabs $((! $?))
exit $failed
