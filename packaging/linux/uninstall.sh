#!/bin/sh
# Removes the program. The clinic's films and answers stay, unless --with-data is given.
set -eu
program="$HOME/.local/opt/clinic"
share="${XDG_DATA_HOME:-$HOME/.local/share}"
case "${1:-}" in
    "" | --with-data) ;;
    *) echo "Usage: uninstall.sh [--with-data]" >&2; exit 2 ;;
esac
rm -rf "$program"
rm -f "$share/applications/clinic-cxr.desktop"
if [ "${1:-}" = --with-data ]; then
    rm -rf "$share/ClinicCXR"
    echo "The program and all films and answers are removed."
else
    echo "The program is removed. The films and answers stay in $share/ClinicCXR."
fi
