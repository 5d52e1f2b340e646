#!/bin/sh
# Runs inside the unpacked installer: puts the program into the user's own folders. No administrator is needed.
set -eu
program="$HOME/.local/opt/clinic"
menu="${XDG_DATA_HOME:-$HOME/.local/share}/applications"

if [ -x "$program/Clinic" ] && pgrep -u "$(id -u)" -f "^$program/Clinic" >/dev/null 2>&1; then
    echo "The program is running. Quit it first, then install again." >&2
    exit 1
fi

rm -rf "$program.new" # of an installation that was broken off
mkdir -p "$program.new" "$menu"
cp -R Clinic/. "$program.new/"
cp uninstall.sh "$program.new/"
# The new program is whole before the old one is moved away: a full disk leaves the old one working
rm -rf "$program.old"
[ ! -e "$program" ] || mv "$program" "$program.old"
mv "$program.new" "$program"
rm -rf "$program.old"

cat > "$menu/clinic-cxr.desktop" <<END
[Desktop Entry]
Type=Application
Name=Clinic chest X-ray
Comment=Signs of pneumonia on chest films, offline
Exec="$program/Clinic"
Terminal=false
Categories=MedicalSoftware;Science;
END
echo "Installed in $program. Start it from the menu: Clinic chest X-ray."
echo "Remove it with: $program/uninstall.sh (the films and answers stay)"
