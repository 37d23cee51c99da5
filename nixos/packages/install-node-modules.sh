# Installs what server and worker run with into FOLDER/node_modules, for a system that need not be this one. The nix
# package and scripts/npm-hashes.ts both run this, so that they cannot differ.
#
#   sh install-node-modules.sh FOLDER CPU
#
# FOLDER holds package.json and package-lock.json; CPU is as Node names it (x64, arm64).
set -eu
folder=$1
cpu=$2
node "$(dirname "$0")/../../scripts/production-manifest.mjs" "$folder"
cd "$folder"
# The lock file holds a hash for each package and no address: whatever registry npm is set up for gives the same bytes.
npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --no-progress --os=linux --cpu="$cpu" --libc=glibc
# It tells when and by which npm this was made.
rm -f node_modules/.package-lock.json
