# Makes one file of the agent. The nix package and its test both run this.
#
#   sh bundle-agent.sh MAIN FILE
set -eu
esbuild "$1" --bundle --platform=node --target=node24 --format=esm --log-level=warning --outfile="$2"
