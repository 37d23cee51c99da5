/**
 * Each call of a tool has a moment before and one after its work, at which the agent can be killed; two tools may run
 * at a time, and count one after the other.
 */
const MOMENT = `moment() {
  exec 9> "$root/moments.lock"; flock 9
  count=$(($(cat "$root/moments") + 1)); echo "$count" > "$root/moments"
  exec 9>&-
  if [ "$count" = "$(cat "$root/kill-at")" ]; then kill -9 "$PPID"; fi
}
moment; trap moment EXIT
echo "$(basename "$0") $*" >> "$root/calls"
`;

/** What the agent calls, as shell scripts; `$root` is the folder of the host. */
export const TOOLS: Readonly<Record<string, string>> = {
  // Copies from the folder "remote", as a substituter; what it says is what Nix says.
  "nix-store": `${MOMENT}
path=$2; add=; dry=
for word; do case $word in --dry-run) dry=1 ;; --add-root) add=next ;; *) [ "$add" = next ] && add=$word ;; esac; done
netrc=$root/state/netrc
[ -e "$netrc" ] && cat "$netrc" > "$root/netrc-seen" && stat -c %a "$netrc" > "$root/netrc-mode"
[ -e "$root/download.sh" ] && { . "$root/download.sh" || exit; }
if [ ! -e "$root$path" ]; then
  if [ ! -e "$root/remote/\${path##*/}" ]; then
    echo "don't know how to build these paths:" >&2; echo "  $path" >&2
    [ "$dry" ] && exit 0; echo "error: build of '$path' failed" >&2; exit 1
  fi
  echo "these 1 paths will be fetched (0.50 MiB download, 1.50 MiB unpacked):" >&2; echo "  $path" >&2
  [ "$dry" ] && exit 0
  mkdir -p "$root/nix/store"; cp -r "$root/remote/\${path##*/}" "$root$path"
fi
[ "$dry" ] || ln -sfn "$path" "$add"
`,
  "nix-env": `${MOMENT}
profile=$2
case $3 in
  --switch-generation) number=$4 ;;
  --set)
    last=$(ls "$profile"-*-link | sed 's/.*-\\([0-9]*\\)-link/\\1/' | sort -n | tail -1)
    number=$((last + 1)); ln -s "$4" "$profile-$number-link" ;;
esac
ln -sfn "$(basename "$profile")-$number-link" "$profile.tmp"; mv -T "$profile.tmp" "$profile"
`,
  systemctl: `${MOMENT}
case $1 in
  list-units) cat "$root/failed-units" 2>/dev/null ;;
  show)
    token=\${4#gradient-deploy-switch-}
    pgrep -f "^/bin/sh -c .*\${token%.service}[.]result" > /dev/null && echo active || echo inactive ;;
  reboot) touch "$root/rebooted" ;;
esac
exit 0
`,
  "systemd-inhibit": `cat "$root/inhibitors" 2>/dev/null; exit 0`,
  "systemd-run": `${MOMENT}
for word; do
  case $word in --unit=*) unit=\${word#--unit=} ;; --property=StandardOutput=file:*) log=\${word#*file:} ;; esac
done
while [ "$1" != -- ]; do shift; done; shift
setsid "$@" > "$log" 2>&1 < /dev/null &
exit 0
`,
};

/** Does what NixOS's does to links, and before that what the file \`behaviour\` says. */
export const SWITCH_SCRIPT = `#!/bin/sh
system=\${0%/bin/switch-to-configuration}; root=\${system%/nix/store/*}; path=\${system#"$root"}; action=$1
echo "$action $path" >> "$root/switches"
case $action in switch | boot) ln -sfn "$path" "$root/boot-entry" ;; esac
[ -e "$system/behaviour" ] && . "$system/behaviour"
case $action in switch | test) ln -sfn "$path" "$root/run/current-system" ;; esac
exit 0
`;
