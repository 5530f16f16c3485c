#!/bin/sh
# Installs Debian's postfix for the tests beside it, without a configuration of its own and without starting it:
# the tests run it with folders and a port of theirs. One that is there already is left as it is.
set -eu
if [ -x /usr/sbin/postfix ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "postfix cannot be installed: that needs root and apt-get" >&2
    exit 1
fi
echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends postfix < /dev/null > /dev/null
